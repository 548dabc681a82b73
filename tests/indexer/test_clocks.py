"""Times of change that lie: in the future, gone back, or the same for other bytes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from indexer import FolderSource, IndexingOptions, IndexReport, index
from tests.indexer.fake_embedder import FakeEmbedder
from tests.vector_store.local_qdrant import open_local_qdrant
from vector_store import VectorStore

PAST, FUTURE = 1_600_000_000, int(time.time()) + 365 * 86_400


def write(path: Path, letter: str, when: int) -> None:
    """Bytes of one size whatever they say."""
    path.write_bytes(b"\xff\xd8" + letter.encode() * 100 + b"\xff\xd9")
    os.utime(path, (when, when))


async def run(store: VectorStore, path: Path, address: str, *, checksum: bool = False) -> IndexReport:
    options = IndexingOptions(ledger_path=path.parent.parent / "ledger.sqlite", checksum=checksum)
    return await index(FolderSource(path.parent), "shop", store, address, options)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos" / "a.jpg"


async def test_a_time_in_the_future_is_not_trusted(
    picture: Path, embedder: FakeEmbedder, address: str
) -> None:
    async with open_local_qdrant() as store:
        write(picture, "a", FUTURE)
        await run(store, picture, address)
        assert not (await run(store, picture, address)).published
        write(picture, "b", FUTURE)
        assert (await run(store, picture, address)).changes["changed"] == 1


async def test_equal_times_need_checksum(picture: Path, embedder: FakeEmbedder, address: str) -> None:
    async with open_local_qdrant() as store:
        write(picture, "a", PAST)
        await run(store, picture, address)
        write(picture, "b", PAST)
        assert not (await run(store, picture, address)).published
        assert (await run(store, picture, address, checksum=True)).changes["changed"] == 1


async def test_a_time_that_went_back_is_read_and_only_other_bytes_are_encoded(
    picture: Path, embedder: FakeEmbedder, address: str
) -> None:
    async with open_local_qdrant() as store:
        write(picture, "a", PAST)
        await run(store, picture, address)
        write(picture, "a", PAST - 86_400)
        assert not (await run(store, picture, address)).published
        write(picture, "b", PAST - 2 * 86_400)
        assert (await run(store, picture, address)).changes["changed"] == 1
    assert len(embedder.batches) == 2
