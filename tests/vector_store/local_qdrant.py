"""The Qdrant engine without a server: the client's local mode, brute force in Python."""

from __future__ import annotations

from qdrant_client import AsyncQdrantClient

from vector_store.qdrant import QdrantOptions
from vector_store.qdrant.store import QdrantStore
from vector_store.versions import QUANTIZE_ABOVE_BYTES


def open_local_qdrant(*, quantize_above_bytes: int = QUANTIZE_ABOVE_BYTES) -> QdrantStore:
    """A store in the memory of this process, gone when it is closed. Too slow for more than a few thousand
    items; `edge://` is the engine for use without a server.
    """
    client = AsyncQdrantClient(location=":memory:")
    return QdrantStore(
        client,
        location=":memory:",
        options=QdrantOptions(poll_s=0.0),
        quantize_above_bytes=quantize_above_bytes,
        local=True,
    )
