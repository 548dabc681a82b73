"""What tests of whole runs share: an embedder over gRPC, an embedded store, small images."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.indexer.fake_embedder import FakeEmbedder, serve
from vector_store import VectorStore, open_store


@pytest.fixture
def embedder() -> FakeEmbedder:
    """The fake that `address` serves."""
    return FakeEmbedder()


@pytest.fixture
async def address(embedder: FakeEmbedder) -> AsyncIterator[str]:
    """Where the fake embedder listens."""
    async with serve(embedder) as bound:
        yield bound


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[VectorStore]:
    """An empty embedded store."""
    opened = open_store(f"edge://{tmp_path / 'store'}")
    yield opened
    await opened.close()
