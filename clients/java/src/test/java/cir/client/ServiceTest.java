package cir.client;

import static cir.client.Payloads.fields;
import static cir.client.Payloads.payload;
import static cir.client.Query.above;
import static cir.client.Query.all;
import static cir.client.Query.atLeast;
import static cir.client.Query.below;
import static cir.client.Query.catalogName;
import static cir.client.Query.equal;
import static cir.client.Query.image;
import static cir.client.Query.item;
import static cir.client.Query.not;
import static cir.client.Query.turn;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import cir.common.v1.ErrorReason;
import cir.search.v1.BatchSearchRequest;
import cir.search.v1.BatchUpsertItemsRequest;
import cir.search.v1.CreateCatalogRequest;
import cir.search.v1.CreateCatalogVersionRequest;
import cir.search.v1.FieldType;
import cir.search.v1.FinishCatalogVersionRequest;
import cir.search.v1.Item;
import cir.search.v1.ItemWrite;
import cir.search.v1.ListItemsRequest;
import cir.search.v1.PublishCatalogVersionRequest;
import cir.search.v1.SearchRequest;
import cir.search.v1.SearchResult;
import cir.search.v1.TurnExplanation;
import cir.search.v1.TurnKind;
import com.google.protobuf.ByteString;
import io.grpc.Status;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Against the search service that `make test-clients` has started: catalog "shop" holds drawn garments. */
@Timeout(60)
class ServiceTest {
  private static final String CATALOG = catalogName("shop");
  private static CirClient client;
  private static Path images;

  @BeforeAll
  static void open() {
    String address = System.getenv("CIR_TEST_SERVER");
    assumeTrue(address != null, "no service: CIR_TEST_SERVER is not set; make test-clients starts one");
    client = CirClient.connect(address);
    images = Path.of(System.getenv("CIR_TEST_IMAGES"));
  }

  @AfterAll
  static void close() {
    if (client != null) {
      client.close();
    }
  }

  private static List<String> ids(Iterable<SearchResult> results) {
    return StreamSupport.stream(results.spliterator(), false).map(result -> result.getItem().getId()).toList();
  }

  @Test
  void twoTurnsWithAFilter() throws IOException {
    var answer = client.search(SearchRequest.newBuilder()
        .setParent(CATALOG)
        .addTurns(turn(image(images.resolve("red-dress.jpg")), "in blue"))
        .addTurns(turn("in green"))
        .setFilter(all(equal("kind", "dress"), below("price", 50), not(equal("colour", "red"))))
        .build());
    assertEquals(List.of("green-dress", "blue-dress"), ids(answer.getResultsList()));
    assertEquals(40L, fields(answer.getResults(0).getItem().getPayload()).get("price"));
    assertEquals(
        List.of(TurnKind.TURN_KIND_COMPOSED, TurnKind.TURN_KIND_CONTINUED),
        answer.getExplanation().getTurnsList().stream().map(TurnExplanation::getKind).toList());
  }

  @Test
  void itemsPageByPage() {
    List<String> ids = new ArrayList<>();
    var dresses = all(equal("kind", "dress"));
    for (Item item : client.items(
        ListItemsRequest.newBuilder().setParent(CATALOG).setPageSize(3).setFilter(dresses).build())) {
      ids.add(item.getId());
    }
    ids.sort(null);
    assertEquals(List.of("black-dress", "blue-dress", "green-dress", "red-dress", "yellow-dress"), ids);
  }

  @Test
  void refusalsNameReasonAndField() {
    var query = SearchRequest.newBuilder().addTurns(turn("a dress"));
    var failed = assertThrows(
        CirException.class, () -> client.search(query.setParent(catalogName("missing")).build()));
    assertEquals(Status.Code.NOT_FOUND, failed.code());
    assertTrue(failed.is(ErrorReason.CATALOG_NOT_FOUND));
    failed = assertThrows(CirException.class, () -> client.search(query.setParent(CATALOG).setPageSize(-1).build()));
    assertEquals(List.of("OUT_OF_RANGE", "page_size"), List.of(failed.reason(), failed.field()));
    assertFalse(failed.requestId().isEmpty());
  }

  @Test
  void anItemWrittenByTheClientIsFound() throws IOException {
    String id = "written by Java";
    var content = ByteString.copyFrom(Files.readAllBytes(images.resolve("red-dress.jpg")));
    var written = Item.newBuilder().setId(id).setPayload(payload(Map.of("kind", id, "price", 7)));
    client.call(client.catalogs()::batchUpsertItems, BatchUpsertItemsRequest.newBuilder()
        .setParent(CATALOG)
        .addItems(ItemWrite.newBuilder().setItem(written).setContent(content))
        .build());
    var query = SearchRequest.newBuilder()
        .setParent(CATALOG)
        .addTurns(turn(item(id), ""))
        .setFilter(all(equal("kind", id), above("price", 6)))
        .setExcludeReferences(false);
    assertEquals(List.of(id), ids(client.results(query.build())));
  }

  /** The drawn images as items, from the first on; after `until` of them the source fails. */
  private static Iterable<ItemWrite> garments(int until) throws IOException {
    List<Path> paths;
    try (var folder = Files.list(images)) {
      paths = folder.filter(path -> path.toString().endsWith(".jpg")).sorted().toList();
    }
    return () -> new Iterator<>() {
      private int number;

      @Override
      public boolean hasNext() {
        return number < paths.size();
      }

      @Override
      public ItemWrite next() {
        if (number == until) {
          throw new NoSuchElementException("the source is gone");
        }
        Path path = paths.get(number);
        var item = Item.newBuilder().setId(path.getFileName().toString()).setPayload(payload(Map.of("number", number)));
        try {
          byte[] encoded = number == 3 ? "no image".getBytes(StandardCharsets.UTF_8) : Files.readAllBytes(path);
          number++;
          return ItemWrite.newBuilder().setItem(item).setContent(ByteString.copyFrom(encoded)).build();
        } catch (IOException e) {
          throw new UncheckedIOException(e);
        }
      }
    };
  }

  @Test
  void aCatalogIsMadeFromNothing() throws IOException, InterruptedException {
    var catalogs = client.catalogs();
    var request = CreateCatalogRequest.newBuilder().setCatalogId("made-by-java").putSchema("number", FieldType.FIELD_TYPE_INTEGER);
    client.call(catalogs::createCatalog, request.build());
    var failed = assertThrows(CirException.class, () -> client.call(catalogs::createCatalog, request.build()));
    assertEquals(Status.Code.ALREADY_EXISTS, failed.code());
    assertTrue(failed.is(ErrorReason.CATALOG_EXISTS));
    String parent = catalogName("made-by-java");
    String name = client.call(
        catalogs::createCatalogVersion, CreateCatalogVersionRequest.newBuilder().setParent(parent).build()).getName();
    // A program that breaks off, and one that goes on.
    var options = new ImportOptions("one").withBatchItems(2);
    var gone = assertThrows(
        NoSuchElementException.class, () -> client.importItems(name, garments(6), options));
    assertEquals("the source is gone", gone.getMessage());
    List<Long> seen = new ArrayList<>();
    var done = client.importItems(name, garments(-1), options.withProgress(progress -> seen.add(progress.done())));
    assertEquals(List.of(15L, 14L, 1L), List.of(done.done(), done.written(), done.rejected()));
    assertEquals(1, done.errors().size());
    assertEquals(3, done.errors().get(0).getIndex());
    assertEquals(ErrorReason.IMAGE_UNREADABLE, done.errors().get(0).getReason());
    assertEquals(15L, seen.get(seen.size() - 1));
    client.call(
        catalogs::finishCatalogVersion,
        FinishCatalogVersionRequest.newBuilder().setName(name).setExpectedItemCount(14).build());
    client.call(
        catalogs::publishCatalogVersion, PublishCatalogVersionRequest.newBuilder().setName(name).build());
    var query = SearchRequest.newBuilder().addTurns(turn("a dress"));
    var outcomes = client.call(client.searches()::batchSearch, BatchSearchRequest.newBuilder()
        .addRequests(query.clone().setParent(parent).setFilter(all(atLeast("number", 5))))
        .addRequests(query.clone().setParent(catalogName("missing")))
        .build()).getOutcomesList();
    assertEquals(10, outcomes.get(0).getResponse().getResultsCount());
    assertEquals(ErrorReason.CATALOG_NOT_FOUND, outcomes.get(1).getError().getReason());
    failed = assertThrows(
        CirException.class, () -> client.importItems(name, garments(-1), new ImportOptions()));
    assertTrue(failed.is(ErrorReason.VERSION_STATE));
    var others = assertThrows(IllegalArgumentException.class, () -> {
      String next = client.call(
          catalogs::createCatalogVersion, CreateCatalogVersionRequest.newBuilder().setParent(parent).build()).getName();
      client.importItems(next, garments(-1), options);
      client.importItems(next, List.of(ItemWrite.getDefaultInstance()), options);
    });
    assertTrue(others.getMessage().contains("15 items are done"), others.getMessage());
  }
}
