package cir.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import cir.search.v1.CatalogServiceGrpc;
import cir.search.v1.ImportItemsRequest;
import cir.search.v1.ImportItemsResponse;
import cir.search.v1.Item;
import cir.search.v1.ItemWrite;
import com.google.protobuf.ByteString;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Server;
import io.grpc.Status;
import io.grpc.protobuf.services.HealthStatusManager;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class ImportTest {
  private static final String VERSION = "catalogs/shop/versions/v0001";

  /** A catalog service that writes items down, and whose streams break after some messages. */
  private static final class Breaking extends CatalogServiceGrpc.CatalogServiceImplBase {
    final List<String> written = new ArrayList<>();
    int streams;
    int messages;
    int longest;

    /** Messages that a stream lives for. The last of them is written, but not answered. */
    int life = 3;

    Status end = Status.UNAVAILABLE;

    @Override
    public StreamObserver<ImportItemsRequest> importItems(StreamObserver<ImportItemsResponse> answers) {
      streams++;
      return new StreamObserver<>() {
        private int left = life;

        @Override
        public void onNext(ImportItemsRequest request) {
          for (int place = written.size() - (int) request.getFirstIndex(); place < request.getItemsCount(); place++) {
            written.add(request.getItems(place).getItem().getId());
          }
          if (request.getItemsCount() > 0) {
            messages++;
            longest = Math.max(longest, request.getItemsCount());
          }
          if (left-- == 0) {
            answers.onError(end.asRuntimeException());
          } else if (left >= 0) {
            String last = written.isEmpty() ? "" : written.get(written.size() - 1);
            answers.onNext(ImportItemsResponse.newBuilder()
                .setNextIndex(written.size()).setWritten(written.size()).setLastItemId(last).build());
          }
        }

        @Override
        public void onError(Throwable broken) {}

        @Override
        public void onCompleted() {
          answers.onCompleted();
        }
      };
    }
  }

  private final Breaking service = new Breaking();
  private Server server;
  private CirClient client;

  @BeforeEach
  void start() throws IOException {
    server = Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create())
        .addService(service)
        .addService(new HealthStatusManager().getHealthService())
        .maxInboundMessageSize(64 << 20)
        .build()
        .start();
    client = CirClient.connect("127.0.0.1:" + server.getPort());
  }

  @AfterEach
  void end() {
    client.close();
    server.shutdownNow();
  }

  private static List<ItemWrite> items(int count, int bytes) {
    var content = ByteString.copyFrom(new byte[bytes]);
    return IntStream.range(0, count)
        .mapToObj(n -> ItemWrite.newBuilder().setItem(Item.newBuilder().setId("item-" + n)).setContent(content).build())
        .toList();
  }

  private static List<String> ids(List<ItemWrite> items) {
    return items.stream().map(write -> write.getItem().getId()).toList();
  }

  @Test
  void itemsCountOnceWhateverBreaks() throws InterruptedException {
    var items = items(20, 1);
    var done = client.importItems(VERSION, items, new ImportOptions().withBatchItems(3));
    assertEquals(20, done.done());
    assertEquals(ids(items), service.written);
    assertTrue(service.streams > 2, () -> service.streams + " streams");
  }

  @Test
  void messagesStaySmall() throws InterruptedException {
    service.life = 100;
    var items = items(7, 3 << 19);
    client.importItems(VERSION, items, new ImportOptions());
    assertEquals(ids(items), service.written);
    assertEquals(List.of(2, 4), List.of(service.longest, service.messages));
  }

  @Test
  void patienceEnds() {
    service.life = 0;
    var hasty = new ImportOptions().withPatience(Duration.ofMillis(300));
    var failed = assertThrows(CirException.class, () -> client.importItems(VERSION, items(3, 1), hasty));
    assertEquals(Status.Code.UNAVAILABLE, failed.code());
    service.streams = 0;
    service.end = Status.FAILED_PRECONDITION;
    assertThrows(CirException.class, () -> client.importItems(VERSION, items(3, 1), new ImportOptions()));
    assertEquals(1, service.streams);
  }
}
