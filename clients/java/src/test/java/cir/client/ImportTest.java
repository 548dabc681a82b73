package cir.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import cir.common.v1.ErrorReason;
import cir.common.v1.ItemError;
import cir.search.v1.CatalogServiceGrpc;
import cir.search.v1.ImportItemsRequest;
import cir.search.v1.ImportItemsResponse;
import cir.search.v1.Item;
import cir.search.v1.ItemWrite;
import com.google.gson.Gson;
import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Server;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.protobuf.services.HealthStatusManager;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

@Timeout(60)
class ImportTest {
  private static final String VERSION = "catalogs/shop/versions/v0001";

  /**
   * A catalog service that writes items down, and whose streams break after some messages. Items without an image are
   * rejected.
   */
  private static final class Breaking extends CatalogServiceGrpc.CatalogServiceImplBase {
    final List<String> written = new ArrayList<>();
    int streams;
    final List<Integer> sizes = new ArrayList<>();

    /** Messages that a stream lives for. The last of them is written, but not answered. */
    int life = 3;

    StatusRuntimeException end = Status.UNAVAILABLE.asRuntimeException();

    @Override
    public StreamObserver<ImportItemsRequest> importItems(StreamObserver<ImportItemsResponse> answers) {
      streams++;
      return new StreamObserver<>() {
        private int left = life;

        @Override
        public void onNext(ImportItemsRequest request) {
          var answer = ImportItemsResponse.newBuilder();
          for (int place = written.size() - (int) request.getFirstIndex(); place < request.getItemsCount(); place++) {
            if (request.getItems(place).getContent().isEmpty()) {
              answer.addErrors(ItemError.newBuilder().setIndex(written.size()).setMessage("no image"));
            }
            written.add(request.getItems(place).getItem().getId());
          }
          if (request.getItemsCount() > 0) {
            sizes.add(request.getItemsCount());
          }
          if (left-- == 0) {
            answers.onError(end);
          } else if (left >= 0) {
            String last = written.isEmpty() ? "" : written.get(written.size() - 1);
            answers.onNext(answer.setNextIndex(written.size()).setWritten(written.size()).setLastItemId(last).build());
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

  private record Some(int count, int image, int text, int integers) {}

  private record Row(String name, List<Some> items, List<Integer> messages, List<Integer> rejected) {
    @Override
    public String toString() {
      return name;
    }
  }

  /** The table that every client's tests read. */
  private static List<Row> rows() throws IOException {
    String file = System.getenv("CIR_TEST_IMPORTS");
    var reader = Files.newBufferedReader(Path.of(file == null ? "../imports.json" : file));
    return List.of(new Gson().fromJson(reader, Row[].class));
  }

  @ParameterizedTest
  @MethodSource("rows")
  void messagesHoldWhatTheServiceTakes(Row row) throws InterruptedException {
    service.life = 100;
    List<ItemWrite> writes = new ArrayList<>();
    for (Some some : row.items()) {
      Map<String, Object> fields = new HashMap<>();
      if (some.text() > 0) {
        fields.put("text", "a".repeat(some.text()));
      }
      if (some.integers() > 0) {
        fields.put("integers", Collections.nCopies(some.integers(), 7));
      }
      var payload = Payloads.payload(fields);
      var content = ByteString.copyFrom(new byte[some.image()]);
      for (int n = 0; n < some.count(); n++) {
        var item = Item.newBuilder().setId("item-" + writes.size()).setPayload(payload);
        writes.add(ItemWrite.newBuilder().setItem(item).setContent(content).build());
      }
    }
    var done = client.importItems(VERSION, writes, new ImportOptions());
    assertEquals(row.messages(), service.sizes);
    assertEquals(ids(writes), service.written);
    assertEquals(row.rejected(), done.errors().stream().map(ItemError::getIndex).toList());
    for (ItemError error : done.errors()) {
      assertEquals(
          List.of("item-" + error.getIndex(), 3, ErrorReason.OUT_OF_RANGE),
          List.of(error.getItemId(), error.getCode(), error.getReason()));
    }
  }

  @Test
  void halfASurrogatePairIsRejectedAlone() throws InterruptedException {
    service.life = 100;
    var one = ByteString.copyFromUtf8("x");
    List<ItemWrite> writes = new ArrayList<>();
    for (String id : List.of("a\ud800", "b", "a\ud801", "\ud83d\ude00")) {
      writes.add(ItemWrite.newBuilder().setItem(Item.newBuilder().setId(id)).setContent(one).build());
    }
    var payload = Payloads.payload(Map.of("title", List.of("x", "\udfff")));
    writes.add(ItemWrite.newBuilder().setItem(Item.newBuilder().setId("c").setPayload(payload)).setContent(one).build());
    var done = client.importItems(VERSION, writes, new ImportOptions());
    assertEquals(
        List.of(
            "0 a\ud800 FIELD_INVALID item.id",
            "2 a\ud801 FIELD_INVALID item.id",
            "4 c FIELD_INVALID item.payload.fields[\"title\"].list_value.values[1].string_value"),
        done.errors().stream()
            .map(error -> "%d %s %s %s".formatted(
                error.getIndex(), error.getItemId(), error.getReason(), error.getMessage().split(" ")[0]))
            .toList());
    assertEquals(List.of("a?", "b", "a?", "\ud83d\ude00", "c"), service.written);
  }

  @Test
  void aContextThatHasEndedImportsNothing() throws Exception {
    var ended = Context.current().withCancellation();
    ended.cancel(null);
    var failed = assertThrows(CirException.class, () -> ended.call(() -> client.importItems(VERSION, items(3, 1), new ImportOptions())));
    assertEquals(Status.Code.CANCELLED, failed.code());
    Thread.currentThread().interrupt();
    assertThrows(InterruptedException.class, () -> client.importItems(VERSION, items(3, 1), new ImportOptions()));
    assertEquals(List.of(), service.written);
  }

  private static StatusRuntimeException limited(Duration wait) {
    var info = ErrorInfo.newBuilder().setReason("RATE_LIMITED").setDomain("cir").build();
    var delay = com.google.protobuf.Duration.newBuilder().setSeconds(wait.getSeconds()).setNanos(wait.getNano());
    return StatusProto.toStatusRuntimeException(com.google.rpc.Status.newBuilder()
        .setCode(Status.Code.RESOURCE_EXHAUSTED.value())
        .addDetails(Any.pack(info))
        .addDetails(Any.pack(RetryInfo.newBuilder().setRetryDelay(delay).build()))
        .build());
  }

  @Test
  void aRateThatIsUsedUpIsWaitedFor() throws InterruptedException {
    service.end = limited(Duration.ofMillis(10));
    assertEquals(8, client.importItems(VERSION, items(8, 1), new ImportOptions().withBatchItems(3)).done());
    assertTrue(service.streams > 1);
    service.end = limited(Duration.ofMinutes(1));
    service.life = 0;
    service.streams = 0;
    var patient = new ImportOptions().withPatience(Duration.ofSeconds(30));
    var failed = assertThrows(CirException.class, () -> client.importItems(VERSION, items(3, 1), patient));
    assertTrue(failed.is(ErrorReason.RATE_LIMITED));
    assertEquals(1, service.streams);
  }

  @Test
  void optionsThatSendNothingAreRefused() {
    assertThrows(IllegalArgumentException.class, () -> new ImportOptions().withBatchItems(0));
    assertThrows(IllegalArgumentException.class, () -> new ImportOptions().withPatience(Duration.ofSeconds(-1)));
  }

  @Test
  void patienceEnds() {
    service.life = 0;
    var hasty = new ImportOptions().withPatience(Duration.ofMillis(300));
    var failed = assertThrows(CirException.class, () -> client.importItems(VERSION, items(3, 1), hasty));
    assertEquals(Status.Code.UNAVAILABLE, failed.code());
    service.streams = 0;
    service.end = Status.FAILED_PRECONDITION.asRuntimeException();
    assertThrows(CirException.class, () -> client.importItems(VERSION, items(3, 1), new ImportOptions()));
    assertEquals(1, service.streams);
  }
}
