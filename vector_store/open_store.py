"""From a URL to a store. Engines are imported only when their scheme is asked for."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from vector_store.base import VectorStore
from vector_store.edge import EdgeOptions
from vector_store.qdrant import QdrantOptions
from vector_store.versions import QUANTIZE_ABOVE_BYTES

_FORMS = "use edge:///absolute/path, qdrant://host:6334, or qdrants://host:6334 for TLS"
_GRPC_PORT = 6334


def open_store(
    url: str,
    *,
    api_key: str = "",
    timeout_s: float = 10.0,
    ca_file: Path | None = None,
    qdrant: QdrantOptions = QdrantOptions(),
    edge: EdgeOptions = EdgeOptions(),
    quantize_above_bytes: int = QUANTIZE_ABOVE_BYTES,
) -> VectorStore:
    """A store, without reaching for it yet: `check()` does that.

    `edge:///absolute/path` is Qdrant Edge in this process, below that folder, and `edge` is for it.
    `qdrant://host:6334` is a Qdrant server or cluster over gRPC, `qdrants://` the same with TLS; `api_key`,
    `timeout_s` (seconds a call may take, tries while a node is away included), `ca_file` (PEM of the
    authorities to trust instead of the system's) and `qdrant` are for these. `quantize_above_bytes` is the
    size of a version's float32 vectors above which AUTO quantisation compresses them. Raises `ValueError` for
    any other URL, or a CA file that cannot be read.
    """
    parts = urlsplit(url)
    if parts.scheme == "edge":
        if parts.netloc or not parts.path.startswith("/"):
            raise ValueError(f"store URL {url!r}: the path must be absolute, with three slashes; {_FORMS}")
        from vector_store.edge.store import EdgeStore

        return EdgeStore(Path(unquote(parts.path)), options=edge, quantize_above_bytes=quantize_above_bytes)
    if parts.scheme in ("qdrant", "qdrants"):
        host, port = _host_and_port(url)
        from vector_store.qdrant.client import connect
        from vector_store.qdrant.store import QdrantStore

        tls = parts.scheme == "qdrants"
        ca = _authorities(ca_file) if tls and ca_file is not None else b""
        client = connect(host, port, tls=tls, api_key=api_key, timeout_s=timeout_s, ca=ca)
        return QdrantStore(client, location=url, options=qdrant, quantize_above_bytes=quantize_above_bytes)
    raise ValueError(f"store URL {url!r}: unknown scheme {parts.scheme!r}; {_FORMS}")


def _authorities(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the authorities of the store's TLS: {error}") from error


def _host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    try:
        port = parts.port or _GRPC_PORT
    except ValueError:
        raise ValueError(f"store URL {url!r}: the port is no number from 1 to 65535; {_FORMS}") from None
    if not parts.hostname or parts.username or parts.path not in ("", "/") or parts.query:
        raise ValueError(f"store URL {url!r}: expected a host and a port and nothing else; {_FORMS}")
    return parts.hostname, port
