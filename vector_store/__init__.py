"""One contract for catalogs of vectors, two engines: Qdrant Edge (in-process) and Qdrant (server)."""

from vector_store.base import CatalogVersion, VectorStore, VersionWriter
from vector_store.open_store import open_store

__all__ = ["CatalogVersion", "VectorStore", "VersionWriter", "open_store"]
