"""The server engine, Qdrant: one server or a cluster, over gRPC. Its options need no client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cir.address import Address, parse_address
from cir.errors import InvalidArgument
from vector_store.base import Engine, EngineOptions, StoreAccess, StoreUrlError, VectorStore
from vector_store.types import NO_PLACEMENT, Placement

_GRPC_PORT = 6334


@dataclass(frozen=True, slots=True)
class QdrantOptions(EngineOptions):
    """Defaults for versions on a Qdrant server or cluster, and for waiting.

    `placement` holds for versions whose own says nothing else; what is 0 in both is the server's choice.
    `index_timeout_s` is the longest time that finishing a version waits for its index, `publish_timeout_s`
    the longest that publishing waits for a version to be green. A writer that has not renewed its lease for
    `lease_s` is taken for dead; clients go on with an import for longer than that. `poll_s` is the time
    between looks at a collection.
    """

    placement: Placement = NO_PLACEMENT
    index_timeout_s: float = 6 * 3600.0
    publish_timeout_s: float = 60.0
    lease_s: float = 30.0
    poll_s: float = 0.5


class QdrantEngine(Engine):
    """The engine of `qdrant://host:port`, and of `qdrants://host:port` with TLS."""

    def open(
        self, url: str, *, access: StoreAccess, options: Sequence[EngineOptions], quantize_above_bytes: int
    ) -> VectorStore:
        address = _parse_address(url)
        from vector_store.qdrant.client import connect
        from vector_store.qdrant.store import QdrantStore

        tls = url.partition(":")[0].lower() == "qdrants"
        ca = _read_authorities(access.ca_file) if tls and access.ca_file is not None else b""
        client = connect(address, tls=tls, api_key=access.api_key, timeout_s=access.timeout_s, ca=ca)
        own = next((given for given in options if isinstance(given, QdrantOptions)), QdrantOptions())
        return QdrantStore(client, location=url, options=own, quantize_above_bytes=quantize_above_bytes)


def _read_authorities(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the authorities of the store's TLS: {error}") from error


def _parse_address(url: str) -> Address:
    rest = url.partition("://")[2]
    try:
        return parse_address(rest.removesuffix("/"), default_port=_GRPC_PORT)
    except InvalidArgument as error:
        raise StoreUrlError(f"expected a host and a port and nothing else ({error.message})") from None
