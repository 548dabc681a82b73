"""From a URL to a store: the registry of engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vector_store.base import Engine, EngineOptions, StoreAccess, StoreUrlError, VectorStore
from vector_store.edge import EdgeEngine
from vector_store.qdrant import QdrantEngine
from vector_store.versions import QUANTIZE_ABOVE_BYTES

ENGINES: Mapping[str, tuple[Engine, str]] = {
    "edge": (EdgeEngine(), "edge:///absolute/path"),
    "qdrant": (QdrantEngine(), "qdrant://host:6334"),
    "qdrants": (QdrantEngine(), "qdrants://host:6334 for TLS"),
}
"""The engine of each URL scheme, and the form of its URLs. A new engine is a package and a line here."""


def open_store(
    url: str,
    *,
    api_key: str = "",
    timeout_s: float = 10.0,
    ca_file: Path | None = None,
    options: Sequence[EngineOptions] = (),
    quantize_above_bytes: int = QUANTIZE_ABOVE_BYTES,
) -> VectorStore:
    """Return the store at a URL, without reaching for it yet: `check()` does that.

    `edge:///absolute/path` is Qdrant Edge in this process, below that folder (`vector_store.edge.folder_url`
    writes it for any path: #, ? and % are quoted). `qdrant://host:6334` is a Qdrant server or cluster over
    gRPC, `qdrants://` the same with TLS.

    `api_key`, `timeout_s` and `ca_file` are for servers (see `StoreAccess`). `options` may hold those of
    several engines (`EdgeOptions`, `QdrantOptions`); the engine of the URL takes its own.
    `quantize_above_bytes` is the size of a version's float32 vectors above which AUTO quantization compresses
    them.

    Raises:
        ValueError: any other URL, or a CA file that cannot be read.
    """
    engine = _find_engine(url)
    access = StoreAccess(api_key=api_key, timeout_s=timeout_s, ca_file=ca_file)
    try:
        return engine.open(url, access=access, options=options, quantize_above_bytes=quantize_above_bytes)
    except StoreUrlError as error:
        raise _invalid(url, str(error)) from None


def embedded_folder(url: str) -> Path | None:
    """Return the folder of an embedded store, None for one on a server.

    Raises:
        ValueError: the URL names no store.
    """
    try:
        return _find_engine(url).folder(url)
    except StoreUrlError as error:
        raise _invalid(url, str(error)) from None


def _find_engine(url: str) -> Engine:
    scheme = url.partition(":")[0].lower() if ":" in url else ""
    if scheme not in ENGINES:
        raise _invalid(url, f"unknown scheme {scheme!r}")
    return ENGINES[scheme][0]


def _invalid(url: str, problem: str) -> ValueError:
    *others, last = (form for _, form in ENGINES.values())
    return ValueError(f"store URL {url!r}: {problem}; use {', '.join(others)}, or {last}")
