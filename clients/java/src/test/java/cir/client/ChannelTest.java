package cir.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import cir.common.v1.ErrorReason;
import cir.search.v1.SearchRequest;
import cir.search.v1.SearchResponse;
import cir.search.v1.SearchResult;
import cir.search.v1.SearchServiceGrpc;
import com.google.protobuf.Any;
import com.google.protobuf.Duration;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerCredentials;
import io.grpc.ServerInterceptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.TlsServerCredentials;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.protobuf.StatusProto;
import io.grpc.protobuf.services.HealthStatusManager;
import io.grpc.stub.StreamObserver;
import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Function;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class ChannelTest {
  private static final Metadata.Key<String> KEY = Metadata.Key.of("x-api-key", Metadata.ASCII_STRING_MARSHALLER);
  private static final Metadata.Key<String> ID = Metadata.Key.of("x-request-id", Metadata.ASCII_STRING_MARSHALLER);
  private static final Metadata.Key<byte[]> DETAILS =
      Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);

  private final List<Runnable> ends = new ArrayList<>();

  @AfterEach
  void end() {
    ends.forEach(Runnable::run);
  }

  /** A search service that counts its calls. */
  private final class Replica extends SearchServiceGrpc.SearchServiceImplBase implements ServerInterceptor {
    final AtomicInteger calls = new AtomicInteger();
    final List<String> keys = Collections.synchronizedList(new ArrayList<>());
    final HealthStatusManager health = new HealthStatusManager();
    final Server server;
    Function<SearchRequest, SearchResponse> answer = request -> SearchResponse.getDefaultInstance();

    Replica(ServerCredentials credentials) throws IOException {
      server = Grpc.newServerBuilderForPort(0, credentials)
          .addService(this)
          .addService(health.getHealthService())
          .intercept(this)
          .maxInboundMessageSize(64 << 20)
          .build()
          .start();
      ends.add(server::shutdownNow);
    }

    @Override
    public void search(SearchRequest request, StreamObserver<SearchResponse> observer) {
      calls.incrementAndGet();
      try {
        observer.onNext(answer.apply(request));
        observer.onCompleted();
      } catch (StatusRuntimeException refusal) {
        observer.onError(refusal);
      }
    }

    @Override
    public <Q, A> ServerCall.Listener<Q> interceptCall(
        ServerCall<Q, A> call, Metadata headers, ServerCallHandler<Q, A> next) {
      if (headers.containsKey(KEY)) {
        keys.add(headers.get(KEY));
      }
      return next.startCall(call, headers);
    }
  }

  private Replica start() throws IOException {
    return new Replica(InsecureServerCredentials.create());
  }

  private CirClient open(CirClient.Builder builder) {
    CirClient client = builder.build();
    ends.add(client::close);
    return client;
  }

  private CirClient clientOf(Replica... replicas) {
    List<String> addresses = new ArrayList<>();
    for (Replica replica : replicas) {
      addresses.add("127.0.0.1:" + replica.server.getPort());
    }
    return open(CirClient.builder(String.join(", ", addresses)));
  }

  private static SearchResponse search(CirClient client) {
    return client.search(SearchRequest.getDefaultInstance());
  }

  /** Searches until both replicas have answered, and forgets the count. */
  private CirClient connected(Replica first, Replica second) {
    CirClient client = clientOf(first, second);
    while (first.calls.get() == 0 || second.calls.get() == 0) {
      search(client);
    }
    first.calls.set(0);
    second.calls.set(0);
    return client;
  }

  @Test
  void replicasShareTheLoad() throws IOException {
    Replica first = start();
    Replica second = start();
    CirClient client = connected(first, second);
    for (int call = 0; call < 40; call++) {
      search(client);
    }
    assertEquals(List.of(20, 20), List.of(first.calls.get(), second.calls.get()));
  }

  @Test
  void everyAddressOfANameIsUsed() throws IOException {
    Replica replica = start();
    int port = replica.server.getPort();
    search(open(CirClient.builder("missing.invalid:1,localhost:%d,[::1]:%d".formatted(port, port))));
    var none = assertThrows(CirException.class, () -> search(open(CirClient.builder("missing.invalid:1,missing.invalid:2"))));
    assertEquals(Status.Code.UNAVAILABLE, none.code());
    assertTrue(none.getMessage().startsWith("no address of missing.invalid"), none.getMessage());
  }

  @Test
  void addressesThatNameNothingAreRefused() {
    for (String address : List.of("host1:1,host2", "host1:1,:2", "host1:1,[::1]:port")) {
      assertThrows(IllegalArgumentException.class, () -> CirClient.connect(address), address);
    }
  }

  @Test
  void aServiceThatIsNotThereIsNamedWithItsAddress() throws IOException {
    int port = start().server.getPort();
    end();
    for (String address : List.of("127.0.0.1:" + port, "127.0.0.1:%d,127.0.0.1:%d".formatted(port, port))) {
      var away = assertThrows(CirException.class, () -> search(open(CirClient.builder(address))));
      assertEquals(Status.Code.UNAVAILABLE, away.code());
      assertTrue(away.getMessage().contains("127.0.0.1:" + port), away.getMessage());
    }
    var none = assertThrows(CirException.class, () -> search(open(CirClient.builder("missing.invalid:1"))));
    assertTrue(none.getMessage().contains("missing.invalid"), none.getMessage());
  }

  @Test
  void aTimeThatNoDeadlineHoldsIsNoneAndNoTimeIsRefused() throws IOException {
    var builder = CirClient.builder("127.0.0.1:" + start().server.getPort());
    search(open(builder.timeout(java.time.Duration.ofSeconds(Long.MAX_VALUE))));
    for (var timeout : List.of(java.time.Duration.ZERO, java.time.Duration.ofMillis(-1))) {
      assertThrows(IllegalArgumentException.class, () -> builder.timeout(timeout));
    }
  }

  @Test
  void halfASurrogatePairIsRefusedWhereItStands() throws IOException {
    Replica replica = start();
    var query = SearchRequest.newBuilder().addTurns(Query.turn("red \ud83d\ude00")).addTurns(Query.turn("a\ud800")).build();
    var refused = assertThrows(IllegalArgumentException.class, () -> clientOf(replica).search(query));
    assertTrue(refused.getMessage().startsWith("turns[1].text holds half of a surrogate pair"), refused.getMessage());
    assertEquals(0, replica.calls.get());
  }

  @Test
  void aReplicaThatDrainsGetsNoCalls() throws IOException, InterruptedException {
    Replica first = start();
    Replica second = start();
    CirClient client = connected(first, second);
    first.health.setStatus("", ServingStatus.NOT_SERVING);
    for (int before = -1; before != first.calls.get(); ) {
      before = first.calls.get();
      for (int call = 0; call < 10; call++) {
        search(client);
        Thread.sleep(1);
      }
    }
    assertTrue(second.calls.get() >= 10);
  }

  @Test
  void aLargeCallThatFoundNoServiceIsSentAgain() throws IOException {
    Replica replica = start();
    replica.answer = request -> {
      if (replica.calls.get() < 3) {
        throw Status.UNAVAILABLE.asRuntimeException();
      }
      return SearchResponse.getDefaultInstance();
    };
    clientOf(replica).search(SearchRequest.newBuilder().addTurns(Query.turn(Query.image(new byte[8 << 20]), "")).build());
    assertEquals(3, replica.calls.get());
  }

  @Test
  void errorsHaveReasonFieldAndTime() throws IOException {
    Replica replica = start();
    replica.answer = request -> {
      Metadata trailers = new Metadata();
      trailers.put(ID, "r-1");
      Duration delay = Duration.newBuilder().setSeconds(2).setNanos(250_000_000).build();
      var violation = BadRequest.FieldViolation.newBuilder().setField("turns[0]");
      throw StatusProto.toStatusRuntimeException(
          com.google.rpc.Status.newBuilder()
              .setCode(Status.Code.RESOURCE_EXHAUSTED.value())
              .setMessage("too much")
              .addDetails(Any.pack(
                  ErrorInfo.newBuilder().setReason("OVERLOADED").setDomain("cir").putMetadata("limit", "8").build()))
              .addDetails(Any.pack(BadRequest.newBuilder().addFieldViolations(violation).build()))
              .addDetails(Any.pack(RetryInfo.newBuilder().setRetryDelay(delay).build()))
              .build(),
          trailers);
    };
    CirException failed = assertThrows(CirException.class, () -> search(clientOf(replica)));
    assertEquals(Status.Code.RESOURCE_EXHAUSTED, failed.code());
    assertTrue(failed.is(ErrorReason.OVERLOADED));
    assertEquals("turns[0]", failed.field());
    assertEquals(2250, failed.retryAfter().toMillis());
    assertEquals("8", failed.metadata().get("limit"));
    assertEquals("r-1", failed.requestId());
    assertEquals("cir: RESOURCE_EXHAUSTED OVERLOADED in turns[0]: too much", failed.toString());
  }

  @Test
  void anErrorWhoseDetailsAreDamagedIsAnErrorAllTheSame() throws IOException {
    Replica replica = start();
    replica.answer = request -> {
      Metadata trailers = new Metadata();
      trailers.put(DETAILS, new byte[] {0x1a, (byte) 0xff, 0x01, 0x0a});
      throw Status.NOT_FOUND.withDescription("none").asRuntimeException(trailers);
    };
    CirException failed = assertThrows(CirException.class, () -> search(clientOf(replica)));
    assertEquals(List.of(Status.Code.NOT_FOUND, "none", ""), List.of(failed.code(), failed.getMessage(), failed.reason()));
  }

  @Test
  void theKeyTravelsWithTheCall() throws IOException {
    Replica replica = start();
    search(open(CirClient.builder("127.0.0.1:" + replica.server.getPort()).key("cir_secret")));
    search(clientOf(replica));
    assertEquals(List.of("cir_secret"), replica.keys);
  }

  @Test
  void aKeyThatCannotBeSentIsRefused() {
    var failed = assertThrows(IllegalArgumentException.class, () -> CirClient.builder("localhost:1").key("cir_secret\n"));
    assertFalse(failed.getMessage().contains("secret"));
  }

  @Test
  void aCallEndsAtItsTime() throws IOException {
    Replica replica = start();
    replica.answer = request -> {
      try {
        Thread.sleep(5000);
      } catch (InterruptedException ended) {
        Thread.currentThread().interrupt();
      }
      return SearchResponse.getDefaultInstance();
    };
    var hasty = CirClient.builder("127.0.0.1:" + replica.server.getPort()).timeout(java.time.Duration.ofMillis(100));
    CirException failed = assertThrows(CirException.class, () -> search(open(hasty)));
    assertEquals(Status.Code.DEADLINE_EXCEEDED, failed.code());
  }

  @Test
  void tlsInBothDirections() throws IOException {
    String folder = System.getenv("CIR_TEST_TLS");
    assumeTrue(folder != null, "no certificates: CIR_TEST_TLS is not set; make test-clients makes some");
    File authority = new File(folder, "ca.pem");
    Replica replica = new Replica(TlsServerCredentials.newBuilder()
        .keyManager(new File(folder, "ca-server.crt"), new File(folder, "ca-server.key"))
        .trustManager(authority)
        .clientAuth(TlsServerCredentials.ClientAuth.REQUIRE)
        .build());
    var trusting = TlsChannelCredentials.newBuilder().trustManager(authority);
    assertEquals(Status.Code.UNAVAILABLE, assertThrows(CirException.class, () -> secured(replica, trusting.build())).code());
    var pair = TlsChannelCredentials.newBuilder()
        .keyManager(new File(folder, "ca-client.crt"), new File(folder, "ca-client.key"));
    assertEquals(Status.Code.UNAVAILABLE, assertThrows(CirException.class, () -> secured(replica, pair.build())).code());
    assertEquals(0, replica.calls.get());
    secured(replica, pair.trustManager(authority).build());
    assertEquals(1, replica.calls.get());
  }

  private void secured(Replica replica, ChannelCredentials credentials) {
    search(open(CirClient.builder("localhost:" + replica.server.getPort()).credentials(credentials)));
  }

  @Test
  void pagesEndWithTheirTokensOrAnError() throws IOException {
    Replica replica = start();
    replica.answer = request -> switch (request.getPageToken()) {
      case "" -> page(1, "second");
      case "second" -> page(2, request.getParent());
      default -> throw Status.INVALID_ARGUMENT.asRuntimeException();
    };
    CirClient client = clientOf(replica);
    List<Integer> ranks = new ArrayList<>();
    client.results(SearchRequest.getDefaultInstance()).forEach(result -> ranks.add(result.getRank()));
    assertEquals(List.of(1, 2), ranks);
    var broken = client.results(SearchRequest.newBuilder().setParent("broken").build());
    var failed = assertThrows(CirException.class, () -> broken.forEach(result -> ranks.add(result.getRank())));
    assertEquals(Status.Code.INVALID_ARGUMENT, failed.code());
    assertEquals(List.of(1, 2, 1, 2), ranks);
  }

  private static SearchResponse page(int rank, String next) {
    return SearchResponse.newBuilder().addResults(SearchResult.newBuilder().setRank(rank)).setNextPageToken(next).build();
  }
}
