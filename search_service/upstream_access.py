"""How the search service reaches embedder and combiner: TLS and API key."""

from __future__ import annotations

from dataclasses import dataclass, field

import grpc.aio

from cir.api_key import metadata
from cir.channel import TlsFiles, open_async_channel
from cir.errors import InvalidArgument
from search_service.settings import SearchSettings
from service_runtime.errors import StartupError
from service_runtime.tls import check_authority, check_pair
from service_runtime.tracing import client_interceptors


@dataclass(frozen=True, slots=True)
class UpstreamAccess:
    """`tls` None connects without encryption; `metadata` goes with every call."""

    tls: TlsFiles | None
    metadata: tuple[tuple[str, str], ...] = field(repr=False)

    def open(self, address: str) -> grpc.aio.Channel:
        """A channel to "host:port"."""
        return open_async_channel(address, tls=self.tls, interceptors=client_interceptors())


def upstream_access(settings: SearchSettings) -> UpstreamAccess:
    """What the settings say. Raises `StartupError` for half of a pair and for files that cannot be used."""
    ca, certificate, key = settings.upstream_ca, settings.upstream_certificate, settings.upstream_key
    if not settings.upstream_tls and (ca or certificate or key):
        raise StartupError(
            "upstream_ca, upstream_certificate and upstream_key are for TLS; set upstream_tls as well"
        )
    if ca is not None:
        check_authority("upstream_ca", ca)
    if certificate is not None and key is not None:
        check_pair(("upstream_certificate", certificate), ("upstream_key", key))
    elif certificate or key:
        raise StartupError("upstream_certificate and upstream_key go together; set both or neither")
    try:
        sent = metadata(settings.upstream_api_key.get_secret_value())
    except InvalidArgument as error:
        raise StartupError(f"upstream_api_key: {error.message}") from None
    return UpstreamAccess(TlsFiles(ca, certificate, key) if settings.upstream_tls else None, sent)
