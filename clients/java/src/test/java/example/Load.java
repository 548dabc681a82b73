// Makes the catalog "shop" of two items; a run that broke off goes on where it was, by version and token.
package example;

import static cir.client.Query.catalogName;
import static java.util.concurrent.TimeUnit.HOURS;

import cir.client.CirClient;
import cir.client.ImportOptions;
import cir.client.Payloads;
import cir.search.v1.*;
import com.google.protobuf.ByteString;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

public class Load {
  public static void main(String[] args) throws Exception {
    List<ItemWrite> items = new ArrayList<>(); // any Iterable, such as one that reads images as they are asked for
    for (String id : List.of("a-1", "a-2")) {
      var payload = Payloads.payload(Map.of("price", new BigDecimal("49.95"), "sizes", List.of(38, 38.5)));
      items.add(ItemWrite.newBuilder().setItem(Item.newBuilder().setId(id).setPayload(payload))
          .setContent(ByteString.copyFrom(Files.readAllBytes(Path.of("images", id + ".jpg")))).build());
    }
    try (var client = CirClient.connect("localhost:50050")) {
      client.call(client.catalogs()::createCatalog, CreateCatalogRequest.newBuilder().setCatalogId("shop")
          .putSchema("price", FieldType.FIELD_TYPE_FLOAT).putSchema("sizes", FieldType.FIELD_TYPE_FLOAT).build());
      String name = client.call(client.catalogs()::createCatalogVersion,
          CreateCatalogVersionRequest.newBuilder().setParent(catalogName("shop")).build()).getName();
      var done = client.importItems(name, items, new ImportOptions("night-of-the-4th"));
      done.errors().forEach(error -> System.err.println(
          error.getIndex() + " " + error.getItemId() + ": " + error.getReason() + ": " + error.getMessage()));
      // Building the indexes of a large catalog takes longer than other calls may.
      client.call(client.catalogs().withDeadlineAfter(1, HOURS)::finishCatalogVersion,
          FinishCatalogVersionRequest.newBuilder().setName(name).setExpectedItemCount(done.written()).build());
      client.call(client.catalogs()::publishCatalogVersion,
          PublishCatalogVersionRequest.newBuilder().setName(name).build());
    }
  }
}
