"""Free ports before the services start, and waiting until each is ready."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException

from cir.address import (
    Address,
    Host,
    Listener,
    Target,
    UnixSocket,
    parse_address,
    parse_listener,
    parse_target,
)
from cir.channel import TlsFiles, is_serving
from cir_cli.errors import Failure, WrongUsage
from cir_cli.local.plan import LOOPBACK, ServiceSpec
from cir_cli.local.variables import service_settings_class
from service_runtime.errors import StartupError
from service_runtime.listen import open_sockets, remove_socket


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on at this moment."""
    with ExitStack() as sockets:
        bound = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for entry in bound:
            entry.bind(("127.0.0.1", 0))
        return [entry.getsockname()[1] for entry in bound]


def resolve_ports(search: int, embedder: int | None, combiner: int | None) -> tuple[int, int, int]:
    """The three ports: 0 is replaced by a free one, None by the port after the one before.

    Raises:
        WrongUsage: ports that are the same.
    """
    spare = iter(free_ports(3))
    first = search or next(spare)
    second = (embedder or next(spare)) if embedder is not None else (first + 1 if search else next(spare))
    third = (combiner or next(spare)) if combiner is not None else (first + 2 if search else next(spare))
    if len({first, second, third}) < 3:
        raise WrongUsage(f"search, embedder and combiner need three ports, not {first}, {second}, {third}")
    return first, second, third


def web_port(asked: int | None, taken: Sequence[int], host: str = LOOPBACK) -> int:
    """The web demo's port: the one asked for; a free one for 0; for None 8080, or else a free one."""
    if asked:
        return asked
    if asked is None and 8080 not in taken and _is_free(host, 8080):
        return 8080
    return free_ports(1)[0]


def _is_free(host: str, port: int) -> bool:
    listener = parse_listener(host, port)
    try:
        check_free([listener if isinstance(listener, Address) else Address(Host(LOOPBACK), port)])
    except Failure:
        return False
    return True


def check_free(listeners: Sequence[Listener]) -> None:
    """Raise `Failure` where something listens already, or that is no address of this machine."""
    for listener in listeners:
        try:
            for opened in open_sockets(listener):
                opened.close()
        except StartupError as error:
            raise Failure(
                f"{error}; stop what uses it, or give others with --host, --port, --embedder-port, "
                "--combiner-port and --web-port"
            ) from error
        remove_socket(listener)


_SECONDS = 1.0


def own_tls(module: str) -> TlsFiles | None:
    """TLS files for reaching the service `module`, by the settings that it will find; None without TLS.

    Settings that it refuses read as None: it says so itself when it starts.
    """
    # Only here: no other command has a use for it.
    from service_runtime.tls import local_tls_files

    try:
        return local_tls_files(service_settings_class(module).load([]))
    except StartupError:
        return None


def takes_calls(spec: ServiceSpec, tls: TlsFiles | None) -> bool:
    """Ask once.

    Raises:
        Failure: a certificate that can never be accepted where the child is reached.
    """
    if not spec.health_name:
        return _page_lives(parse_address(spec.address))
    if is_serving(spec.address, spec.health_name, timeout=_SECONDS, tls=tls):
        return True
    if tls is not None and (problem := _refusal(spec.address, tls)):
        raise Failure(
            f"the {spec.name} cannot be reached over TLS at {spec.address}: {problem}; its certificate must "
            "name that address, and for mutual TLS be one that its own tls_client_ca lets in"
        )
    return False


def _page_lives(address: Address) -> bool:
    # Not by urllib, which would ask a proxy that the environment names for the web.
    connection = HTTPConnection(address.host.bare, address.port, timeout=_SECONDS)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _refusal(address: str, tls: TlsFiles) -> str:
    """Why one of the two sides refuses the other's certificate; empty where neither does so yet."""
    target = parse_target(address)
    # A Unix socket has the name that gRPC gives it.
    name = target.host.bare if isinstance(target, Address) else "localhost"
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        # As gRPC does: the server's own certificate is enough to trust it by.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.set_alpn_protocols(["h2"])
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
        with (
            _connect(target) as connection,
            context.wrap_socket(connection, server_hostname=name) as encrypted,
        ):
            try:
                # A server speaks first in HTTP/2; one that refuses our certificate hangs up here.
                heard = encrypted.recv(1)
            except TimeoutError:
                return ""
            except OSError:
                heard = b""
            return "" if heard or tls.certificate is None else "it hangs up on its own certificate"
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except OSError:
        return ""


def _connect(target: Target) -> socket.socket:
    if isinstance(target, Address):
        return socket.create_connection((target.host.bare, target.port), timeout=_SECONDS)
    if not isinstance(target, UnixSocket):
        raise OSError(f"{target} is not an address of this machine")
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_SECONDS)
    connection.connect(target.bare)
    return connection
