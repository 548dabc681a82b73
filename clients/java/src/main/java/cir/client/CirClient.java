package cir.client;

import cir.search.v1.CatalogServiceGrpc;
import cir.search.v1.CatalogServiceGrpc.CatalogServiceBlockingStub;
import cir.search.v1.Item;
import cir.search.v1.ItemWrite;
import cir.search.v1.ListItemsRequest;
import cir.search.v1.SearchRequest;
import cir.search.v1.SearchResponse;
import cir.search.v1.SearchResult;
import cir.search.v1.SearchServiceGrpc;
import cir.search.v1.SearchServiceGrpc.SearchServiceBlockingStub;
import com.google.gson.Gson;
import com.google.protobuf.Message;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ClientInterceptors;
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.function.Function;

/**
 * Calls the search service, over a channel that uses every replica. Safe for concurrent use; make one and keep it.
 *
 * <p>Requests and answers are the generated messages, whose comments are the reference. Failed calls are {@link
 * CirException}s.
 */
public final class CirClient implements AutoCloseable {
  static final int MAX_MESSAGE_BYTES = 64 << 20;
  private static final Metadata.Key<String> KEY = Metadata.Key.of("x-api-key", Metadata.ASCII_STRING_MARSHALLER);

  private final ManagedChannel managed;
  private final Channel channel;
  private final SearchServiceBlockingStub search;
  private final CatalogServiceBlockingStub catalogs;

  private CirClient(Builder options) {
    ManagedChannelBuilder<?> builder = Grpc.newChannelBuilder(Replicas.target(options.address), options.credentials)
        .defaultServiceConfig(serviceConfig())
        .disableServiceConfigLookUp()
        .maxInboundMessageSize(MAX_MESSAGE_BYTES)
        // A request that the buffers have no room for is sent once only; the defaults are 1 MiB and 16 MiB.
        .perRpcBufferLimit(MAX_MESSAGE_BYTES)
        .retryBufferSize(4L * MAX_MESSAGE_BYTES)
        // The shortest time that Java keeps to. A replica whose machine is gone closes no connection.
        .keepAliveTime(10, TimeUnit.SECONDS)
        .keepAliveTimeout(3, TimeUnit.SECONDS);
    options.channel.accept(builder);
    Metadata headers = new Metadata();
    if (!options.key.isEmpty()) {
      headers.put(KEY, options.key);
    }
    managed = builder.build();
    channel = ClientInterceptors.intercept(
        managed, MetadataUtils.newAttachHeadersInterceptor(headers), unary(options.timeout));
    search = SearchServiceGrpc.newBlockingStub(channel);
    catalogs = CatalogServiceGrpc.newBlockingStub(channel);
  }

  /** A client of an address as {@link #builder} takes it, without a key and without TLS. */
  public static CirClient connect(String address) {
    return builder(address).build();
  }

  /**
   * Options of a client of the service at an address: "host:port", whose name may stand for several replicas, replicas
   * one by one, "host1:port,host2:port", or any target of gRPC ("unix:///path"). Connects with the first call.
   */
  public static Builder builder(String address) {
    return new Builder(address);
  }

  /** Options of a client. */
  public static final class Builder {
    private final String address;
    private String key = "";
    private ChannelCredentials credentials = InsecureChannelCredentials.create();
    private Duration timeout = Duration.ofSeconds(30);
    private Consumer<ManagedChannelBuilder<?>> channel = builder -> {};

    private Builder(String address) {
      this.address = address;
    }

    /** Sends an API key with every call; empty: none. */
    public Builder key(String key) {
      if (!key.chars().allMatch(c -> c >= ' ' && c <= '~')) {
        throw new IllegalArgumentException("an API key has printable ASCII characters only");
      }
      this.key = key;
      return this;
    }

    /** Encrypts, with {@code io.grpc.TlsChannelCredentials}. Without it nothing is encrypted. */
    public Builder credentials(ChannelCredentials credentials) {
      this.credentials = credentials;
      return this;
    }

    /** Time that a call may take which has no deadline of its own; 30 s. Imports are no such calls. */
    public Builder timeout(Duration timeout) {
      if (timeout.isNegative() || timeout.isZero()) {
        throw new IllegalArgumentException("a timeout is above 0, not " + timeout);
      }
      this.timeout = timeout;
      return this;
    }

    /** Changes the channel further, after this class. */
    public Builder channel(Consumer<ManagedChannelBuilder<?>> change) {
      this.channel = change;
      return this;
    }

    public CirClient build() {
      return new CirClient(this);
    }
  }

  /** Answers a query. */
  public SearchResponse search(SearchRequest request) {
    return call(search::search, request);
  }

  /** Makes any call of {@link #searches} or {@link #catalogs}: {@code client.call(client.catalogs()::getItem, request)}. */
  public <Q, A> A call(Function<Q, A> method, Q request) {
    try {
      return method.apply(request);
    } catch (StatusRuntimeException failed) {
      throw CirException.of(failed);
    }
  }

  /** The generated stub of the search service, for {@link #call}. */
  public SearchServiceBlockingStub searches() {
    return search;
  }

  /** The generated stub of catalogs, for {@link #call}. */
  public CatalogServiceBlockingStub catalogs() {
    return catalogs;
  }

  /** The channel with key and deadline, for the stubs of other services and those that do not block. */
  public Channel channel() {
    return channel;
  }

  /** The results of a query, best first, page after page as they are read; its page size is that of each. */
  public Iterable<SearchResult> results(SearchRequest request) {
    return pages(request.getPageToken(), token -> {
      SearchResponse page = search(request.toBuilder().setPageToken(token).build());
      return new Page<>(page.getResultsList(), page.getNextPageToken());
    });
  }

  /** The items of a catalog, page after page as they are read. */
  public Iterable<Item> items(ListItemsRequest request) {
    return pages(request.getPageToken(), token -> {
      var page = call(catalogs::listItems, request.toBuilder().setPageToken(token).build());
      return new Page<>(page.getItemsList(), page.getNextPageToken());
    });
  }

  /**
   * Writes items into a version that is being built (CreateCatalogVersion), by its resource name. The items are read
   * once, in order; what their iterator throws ends the import. Each is written exactly once, also when the connection
   * or the service breaks meanwhile. Items that the service rejects, and those that no message holds, fail alone.
   * FinishCatalogVersion and PublishCatalogVersion come next. An interrupt, or the end of the current {@code
   * io.grpc.Context}, ends the import; what is done stays done.
   */
  public Imported importItems(String version, Iterable<ItemWrite> items, ImportOptions options)
      throws InterruptedException {
    return new Import(channel, version, items.iterator(), options).run();
  }

  /** Ends the channel; calls under way fail. */
  @Override
  public void close() {
    managed.shutdownNow();
  }

  private record Page<T>(List<T> found, String nextToken) {}

  private static <T> Iterable<T> pages(String first, Function<String, Page<T>> fetch) {
    return () -> new Iterator<T>() {
      private Iterator<T> page = List.<T>of().iterator();
      private String token = first;
      private boolean isLast;

      @Override
      public boolean hasNext() {
        while (!page.hasNext() && !isLast) {
          Page<T> next = fetch.apply(token);
          page = next.found().iterator();
          token = next.nextToken();
          isLast = token.isEmpty();
        }
        return page.hasNext();
      }

      @Override
      public T next() {
        if (!hasNext()) {
          throw new NoSuchElementException();
        }
        return page.next();
      }
    };
  }

  /** The service config of every client, as docs/clients.md publishes it. */
  static Map<String, ?> serviceConfig() {
    try (var file = CirClient.class.getResourceAsStream("service_config.json")) {
      @SuppressWarnings("unchecked")
      Map<String, ?> config = new Gson().fromJson(new InputStreamReader(file, StandardCharsets.UTF_8), Map.class);
      return config;
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** Sets the deadline of unary calls, and refuses texts in them that are no Unicode. */
  private static ClientInterceptor unary(Duration timeout) {
    return new ClientInterceptor() {
      @Override
      public <Q, A> ClientCall<Q, A> interceptCall(MethodDescriptor<Q, A> method, CallOptions options, Channel next) {
        if (method.getType() != MethodDescriptor.MethodType.UNARY) {
          return next.newCall(method, options);
        }
        // Beyond 292 years it is those.
        CallOptions timed = options.getDeadline() == null
            ? options.withDeadlineAfter(TimeUnit.NANOSECONDS.convert(timeout), TimeUnit.NANOSECONDS)
            : options;
        return new SimpleForwardingClientCall<>(next.newCall(method, timed)) {
          @Override
          public void sendMessage(Q request) {
            String field = request instanceof Message message ? Unicode.problem(message) : "";
            if (!field.isEmpty()) {
              throw new IllegalArgumentException(field + Unicode.PROBLEM);
            }
            super.sendMessage(request);
          }
        };
      }
    };
  }
}
