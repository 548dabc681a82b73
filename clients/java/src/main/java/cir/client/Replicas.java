package cir.client;

import io.grpc.EquivalentAddressGroup;
import io.grpc.NameResolver;
import io.grpc.NameResolverProvider;
import io.grpc.NameResolverRegistry;
import io.grpc.Status;
import io.grpc.StatusOr;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.net.URI;
import java.net.URISyntaxException;
import java.net.UnknownHostException;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Set;
import java.util.stream.Stream;

/** Resolves "host1:port,host2:port", for which gRPC has no resolver of its own. */
final class Replicas extends NameResolverProvider {
  private static final String SCHEME = "replicas";

  static {
    NameResolverRegistry.getDefaultRegistry().register(new Replicas());
  }

  /** The target of gRPC for an address. */
  static String target(String address) {
    if (!address.contains(",") || address.contains("/")) {
      return address;
    }
    try {
      return new URI(SCHEME, null, "/" + address.replace(" ", ""), null).toString();
    } catch (URISyntaxException e) {
      throw new IllegalArgumentException(e);
    }
  }

  @Override
  public NameResolver newNameResolver(URI target, NameResolver.Args args) {
    if (!target.getScheme().equals(SCHEME)) {
      return null;
    }
    List<HostPort> replicas = Stream.of(target.getPath().substring(1).split(",")).map(HostPort::parse).toList();
    return new NameResolver() {
      private Listener2 listener;

      @Override
      public String getServiceAuthority() {
        return replicas.get(0).text();
      }

      @Override
      public void start(Listener2 listener) {
        this.listener = listener;
        refresh();
      }

      @Override
      public void refresh() {
        args.getOffloadExecutor().execute(() -> listener.onResult(
            ResolutionResult.newBuilder().setAddressesOrError(resolve(replicas)).build()));
      }

      @Override
      public void shutdown() {}
    };
  }

  private record HostPort(String text, String host, int port) {
    static HostPort parse(String text) {
      int colon = text.lastIndexOf(':');
      if (colon < 1) {
        throw new IllegalArgumentException("\"" + text + "\" is no host:port");
      }
      return new HostPort(text, text.substring(0, colon), Integer.parseInt(text.substring(colon + 1)));
    }
  }

  /** All addresses of the names that can be looked up, or why there are none. */
  private static StatusOr<List<EquivalentAddressGroup>> resolve(List<HostPort> replicas) {
    List<EquivalentAddressGroup> found = new ArrayList<>();
    Status failed = Status.UNAVAILABLE;
    for (HostPort replica : replicas) {
      try {
        for (InetAddress address : InetAddress.getAllByName(replica.host())) {
          found.add(new EquivalentAddressGroup(new InetSocketAddress(address, replica.port())));
        }
      } catch (UnknownHostException e) {
        failed = Status.UNAVAILABLE.withDescription("no address of " + replica.host()).withCause(e);
      }
    }
    return found.isEmpty() ? StatusOr.fromStatus(failed) : StatusOr.fromValue(found);
  }

  @Override
  public String getDefaultScheme() {
    return SCHEME;
  }

  @Override
  public Collection<Class<? extends SocketAddress>> getProducedSocketAddressTypes() {
    return Set.of(InetSocketAddress.class);
  }

  @Override
  protected boolean isAvailable() {
    return true;
  }

  /** Below that of "dns", which stays gRPC's default. */
  @Override
  protected int priority() {
    return 1;
  }
}
