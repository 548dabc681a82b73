package cir.client;

import io.grpc.EquivalentAddressGroup;
import io.grpc.NameResolver;
import io.grpc.NameResolverProvider;
import io.grpc.NameResolverRegistry;
import io.grpc.StatusOr;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.net.URI;
import java.net.URISyntaxException;
import java.util.Collection;
import java.util.List;
import java.util.Set;

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
    List<String> replicas = List.of(target.getPath().substring(1).split(","));
    List<EquivalentAddressGroup> addresses = replicas.stream().map(Replicas::address).toList();
    return new NameResolver() {
      @Override
      public String getServiceAuthority() {
        return replicas.get(0);
      }

      @Override
      public void start(Listener2 listener) {
        listener.onResult(ResolutionResult.newBuilder().setAddressesOrError(StatusOr.fromValue(addresses)).build());
      }

      @Override
      public void shutdown() {}
    };
  }

  /** An address whose name is looked up with each connection. */
  private static EquivalentAddressGroup address(String replica) {
    int colon = replica.lastIndexOf(':');
    if (colon < 1) {
      throw new IllegalArgumentException("\"" + replica + "\" is no host:port");
    }
    String host = replica.substring(0, colon).replaceAll("[\\[\\]]", "");
    int port = Integer.parseInt(replica.substring(colon + 1));
    return new EquivalentAddressGroup(InetSocketAddress.createUnresolved(host, port));
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
