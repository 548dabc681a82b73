"""One contract for catalogs of vectors, two engines: Qdrant Edge (in-process) and Qdrant (server)."""

from vector_store.contract import CatalogReader, VectorStore, VersionWriter
from vector_store.open_store import open_store

__all__ = ["CatalogReader", "VectorStore", "VersionWriter", "open_store"]
