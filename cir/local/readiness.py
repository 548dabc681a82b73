"""Whether a child takes calls, over TLS where its own settings say so."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING
from urllib.request import urlopen

from cir.channel import TlsFiles
from cir.failure import Failure
from cir.health import is_serving
from cir.local.plan import ServiceSpec

if TYPE_CHECKING:
    from service_runtime.settings import ServiceSettings

_SECONDS = 1.0


def own_tls(module: str) -> TlsFiles | None:
    """What reaches the service `module` over TLS, by the settings that it will find; None without TLS.

    Settings that it refuses read as None: it says so itself when it starts.
    """
    # Only here: the base install has no services.
    from service_runtime.errors import StartupError
    from service_runtime.tls import local_tls_files

    try:
        return local_tls_files(_settings_class(module).load([]))
    except StartupError:
        return None


def _settings_class(module: str) -> type[ServiceSettings]:
    # Only here, and only the one: the base install has no services.
    if module == "embedder_service":
        from embedder_service.settings import EmbedderSettings

        return EmbedderSettings
    if module == "combiner_service":
        from combiner_service.settings import CombinerSettings

        return CombinerSettings
    from search_service.settings import SearchSettings

    return SearchSettings


def takes_calls(spec: ServiceSpec, tls: TlsFiles | None) -> bool:
    """Ask once. Raises `Failure` for a certificate that can never be accepted where the child is reached."""
    if not spec.health_name:
        try:
            with urlopen(f"http://{spec.address}/healthz", timeout=_SECONDS) as answer:  # our own address
                return bool(answer.status == 200)
        except OSError:
            return False
    if is_serving(spec.address, spec.health_name, timeout=_SECONDS, tls=tls):
        return True
    if tls is not None and (problem := _refusal(spec.address, tls)):
        raise Failure(
            f"the {spec.name} cannot be reached over TLS at {spec.address}: {problem}; its certificate must "
            "name that address, and for mutual TLS be one that its own tls_client_ca lets in"
        )
    return False


def _refusal(address: str, tls: TlsFiles) -> str:
    """Why one of the two sides refuses the other's certificate; empty where neither does so yet."""
    host, _, port = address.rpartition(":")
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        # As gRPC does: the server's own certificate is enough to trust it by.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.set_alpn_protocols(["h2"])
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=host.strip("[]")) as encrypted,
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
