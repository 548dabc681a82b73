// Finds garments like the one on an image, first in blue, then with stripes, that cost less than 80.
package example;

import static cir.client.Query.*;

import cir.client.CirClient;
import cir.client.Payloads;
import cir.search.v1.SearchRequest;
import java.nio.file.Path;

public class First {
  public static void main(String[] args) throws Exception {
    try (var client = CirClient.connect("localhost:50050")) {
      var query = SearchRequest.newBuilder().setParent(catalogName("shop")).setPageSize(5)
          .addTurns(turn(image(Path.of("dress.jpg")), "in blue")).addTurns(turn("with stripes"))
          .setFilter(all(equal("kind", "dress"), below("price", 80.0)));
      for (var result : client.search(query.build()).getResultsList()) {
        var price = Payloads.fields(result.getItem().getPayload()).get("price");
        System.out.println(result.getRank() + " " + result.getItem().getId() + " " + price);
      }
    }
  }
}
