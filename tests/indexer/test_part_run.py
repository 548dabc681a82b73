"""Partitions embedded apart end in the catalog of an undivided run, and embed nothing twice."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cir.common.v1 import errors_pb2
from indexer import FolderSource, IndexingOptions, ManifestSource, Partition, embed_part, finish, index
from indexer.errors import LedgerError, PartsError
from indexer.parts import part_path, work_ledger_path
from indexer.sources.base import Source
from tests.indexer.fake_embedder import FakeEmbedder
from tests.indexer.helpers import fill, jpeg, stored
from tests.vector_store.local_qdrant import open_local_qdrant
from vector_store import VectorStore, open_store
from vector_store.types import Item

pytestmark = pytest.mark.service

FAST = IndexingOptions(connect_seconds=0.3, retry_seconds=3.0, write_items=10)


@pytest.fixture
async def store() -> AsyncIterator[VectorStore]:
    """An empty store that is quick to publish."""
    async with open_local_qdrant() as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty images, two of them no images and two alike, with times of change that are trusted."""
    photos = tmp_path / "photos"
    fill(photos, 36)
    (photos / "text.jpg").write_text("this is no image")
    (photos / "empty.jpg").write_bytes(b"")
    for name in ("twin-a.jpg", "twin-b.jpg"):
        (photos / name).write_bytes(jpeg(77))
    settle(photos)
    return photos


def settle(folder: Path) -> None:
    for path in folder.rglob("*.jpg"):
        os.utime(path, (1_600_000_000, 1_600_000_000))


async def run_parts(source: Source, address: str, parts: Path, count: int) -> int:
    """Run every partition, all at once; returns how many items were left out."""
    reports = await asyncio.gather(
        *(
            embed_part(source, "shop", address, Partition(number, count), parts, FAST)
            for number in range(1, count + 1)
        )
    )
    return sum(report.rejected for report in reports)


def sent(embedder: FakeEmbedder) -> int:
    count = sum(len(request.images) for request in embedder.batches)
    embedder.batches.clear()
    return count


def same(found: dict[str, Item], expected: dict[str, Item]) -> None:
    assert found.keys() == expected.keys()
    for item_id, item in found.items():
        other = expected[item_id]
        assert (item.image, dict(item.payload)) == (other.image, dict(other.payload))
        assert item.features is not None
        np.testing.assert_array_equal(item.features, other.features)


@pytest.mark.parametrize(("engine", "count"), [("edge", 3), ("qdrant", 1), ("qdrant", 3)])
async def test_both_ends_are_the_same(
    folder: Path, tmp_path: Path, embedder: FakeEmbedder, address: str, engine: str, count: int
) -> None:
    opened = [
        open_store(f"edge://{tmp_path / name}") if engine == "edge" else open_local_qdrant()
        for name in ("whole", "divided")
    ]
    source, parts = FolderSource(folder), tmp_path / "parts"
    async with opened[0] as whole, opened[1] as divided:
        options = replace(FAST, ledger_path=tmp_path / "whole.sqlite")
        one = await index(source, "shop", whole, address, options)
        encoded = sent(embedder)
        assert await run_parts(source, address, parts, count) == one.rejected == 2
        assert sent(embedder) == encoded
        options = replace(FAST, ledger_path=tmp_path / "divided.sqlite")
        other = await finish(source, "shop", divided, parts, options)
        assert sent(embedder) == 0
        for name in ("read", "indexed", "unchanged", "rejected", "reject_reasons", "changes", "schema"):
            assert getattr(other, name) == getattr(one, name), name
        same(await stored(divided), await stored(whole))


async def test_a_second_run_embeds_what_is_new_and_a_finish_without_changes_publishes_nothing(
    folder: Path, tmp_path: Path, store: VectorStore, embedder: FakeEmbedder, address: str
) -> None:
    source, parts = FolderSource(folder), tmp_path / "parts"
    await run_parts(source, address, parts, 2)
    await finish(source, "shop", store, parts, FAST)
    sent(embedder)
    await run_parts(source, address, parts, 2)
    assert sent(embedder) == 1  # the text is no image still
    assert not (await finish(source, "shop", store, parts, FAST)).published
    (folder / "new.jpg").write_bytes(jpeg(100))
    (folder / "0001.jpg").write_bytes(jpeg(101))
    (folder / "0002.jpg").unlink()
    (folder / "0004.jpg").write_bytes(b"not an image any more")
    settle(folder)
    with pytest.raises(PartsError, match=r"another state of the source.*run partition 1/2 again"):
        await finish(source, "shop", store, parts, FAST)
    await run_parts(source, address, parts, 2)
    assert sent(embedder) == 4
    report = await finish(source, "shop", store, parts, replace(FAST, sync=True))
    assert (report.changes["new"], report.changes["changed"], report.deleted) == (1, 1, 1)
    async with open_local_qdrant() as other:
        options = replace(FAST, ledger_path=tmp_path / "fresh.sqlite")
        await index(source, "shop", other, address, options)
        found, expected = await stored(store), await stored(other)
    # It cannot be read any more, so it stays as it was published, as in every run.
    assert found.pop("0004.jpg").payload == {"filename": "0004.jpg"}
    same(found, expected)


async def test_a_payload_alone_is_not_embedded_again(
    folder: Path, tmp_path: Path, store: VectorStore, embedder: FakeEmbedder, address: str
) -> None:
    manifest, parts = folder / "m.csv", tmp_path / "parts"
    for price in (1, 2):
        rows = [f"{n},{n:04d}.jpg,{price}" for n in range(36) if n % 3]
        manifest.write_text("\n".join(["id,image,price", *rows]) + "\n")
        source = ManifestSource(manifest)
        await run_parts(source, address, parts, 2)
        report = await finish(source, "shop", store, parts, FAST)
        assert sent(embedder) == (24 if price == 1 else 0)
    assert report.changes["payload_only"] == 24
    assert {item.payload["price"] for item in (await stored(store)).values()} == {2}


async def test_an_image_that_changed_after_its_partition_ran_stops_the_finish(
    folder: Path, tmp_path: Path, store: VectorStore, embedder: FakeEmbedder, address: str
) -> None:
    source, parts = FolderSource(folder), tmp_path / "parts"
    await run_parts(source, address, parts, 2)
    (folder / "0005.jpg").write_bytes(jpeg(500))
    with pytest.raises(PartsError, match=r"'0005.jpg' has changed.*run partition \d/2 again"):
        await finish(source, "shop", store, parts, FAST)
    (folder / "0005.jpg").write_bytes(jpeg(5))  # as it was, but for the time
    assert (await finish(source, "shop", store, parts, FAST)).indexed == 38


async def test_an_image_that_was_touched_is_read_and_not_embedded(
    folder: Path, tmp_path: Path, store: VectorStore, embedder: FakeEmbedder, address: str
) -> None:
    source, parts = FolderSource(folder), tmp_path / "parts"
    await run_parts(source, address, parts, 2)
    sent(embedder)
    moved = tmp_path / "mounted-elsewhere"
    shutil.copytree(folder, moved)
    for path in moved.rglob("*.jpg"):
        path.touch()
    elsewhere = FolderSource(moved, image_base=f"{folder}/")
    report = await finish(elsewhere, "shop", store, parts, FAST)
    assert (report.indexed, sent(embedder)) == (38, 0)


async def test_parts_that_are_missing_mixed_or_damaged_are_told(
    folder: Path, tmp_path: Path, store: VectorStore, embedder: FakeEmbedder, address: str
) -> None:
    source, parts = FolderSource(folder), tmp_path / "parts"

    async def refused(told: str, catalog: str = "shop") -> None:
        with pytest.raises(PartsError, match=told):
            await finish(source, catalog, store, parts, FAST)

    await refused("cannot be read")
    await run_parts(source, address, parts, 3)
    second = part_path(parts, Partition(2, 3))
    await refused("of catalog 'shop'", "other")
    kept = second.read_bytes()
    second.unlink()
    await refused(r"1 of 3 parts are missing.*2/3")
    second.write_bytes(kept[:3000] + bytes(4096) + kept[7096:])
    await refused("run its partition again")
    second.write_bytes(kept[: len(kept) // 2])
    await refused("run its partition again")
    shutil.copy(part_path(parts, Partition(1, 3)), second)
    await refused("holds partition 1/3")
    second.write_bytes(kept)
    embedder.fingerprint = "another"
    await embed_part(source, "shop", address, Partition(2, 3), parts, FAST)
    await refused("of model another")
    shutil.copy(second, parts / "part-1-of-5.sqlite")
    await refused("parts of 3 and of 5")
    assert await store.list_catalogs() == []


async def test_another_model_embeds_everything_again(
    folder: Path, tmp_path: Path, embedder: FakeEmbedder, address: str
) -> None:
    source, parts = FolderSource(folder), tmp_path / "parts"
    await run_parts(source, address, parts, 2)
    assert sent(embedder) == 39
    embedder.fingerprint = "another"
    await run_parts(source, address, parts, 2)
    assert sent(embedder) == 39


async def test_an_interrupted_partition_goes_on_and_keeps_the_part_before(
    folder: Path, tmp_path: Path, embedder: FakeEmbedder, address: str
) -> None:
    source, parts, one = FolderSource(folder), tmp_path / "parts", Partition(1, 1)
    third = asyncio.Event()

    async def stop_at_the_third(number: int) -> None:
        if number == 3:
            third.set()
            await asyncio.sleep(60)

    embedder.before_answer = stop_at_the_third
    options = replace(FAST, calls_in_flight=1)
    run = asyncio.create_task(embed_part(source, "shop", address, one, parts, options))
    await third.wait()
    with pytest.raises(LedgerError, match="in use by another run"):
        await embed_part(source, "shop", address, one, parts, options)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert not part_path(parts, one).exists()
    embedder.before_answer = None
    before = sent(embedder)
    report = await embed_part(source, "shop", address, one, parts, options)
    assert before + sent(embedder) <= 39 + embedder.limits.max_batch_items
    assert (report.read, report.rejected) == (40, 2)
    assert report.unchanged > 0
    assert work_ledger_path(parts, one).exists()


async def test_a_damaged_working_file_is_told(tmp_path: Path, address: str) -> None:
    fill(tmp_path / "photos", 2)
    source, one = FolderSource(tmp_path / "photos"), Partition(1, 1)
    await embed_part(source, "shop", address, one, tmp_path, FAST)
    path = work_ledger_path(tmp_path, one)
    path.write_text("this is no database" * 300)
    with pytest.raises(PartsError, match="delete it and run the partition again"):
        await embed_part(source, "shop", address, one, tmp_path, FAST)
    path.unlink()
    assert (await embed_part(source, "shop", address, one, tmp_path, FAST)).indexed == 2


async def test_more_partitions_than_items(
    tmp_path: Path, store: VectorStore, embedder: FakeEmbedder, address: str
) -> None:
    ids = fill(tmp_path / "photos", 2)
    source, parts = FolderSource(tmp_path / "photos"), tmp_path / "parts"
    await run_parts(source, address, parts, 6)
    await finish(source, "shop", store, parts, FAST)
    assert sorted(await stored(store)) == ids


async def test_a_partition_whose_items_are_all_refused_is_a_part(
    folder: Path, tmp_path: Path, embedder: FakeEmbedder, address: str
) -> None:
    embedder.item_fault = lambda content: errors_pb2.IMAGE_UNREADABLE
    report = await embed_part(
        FolderSource(folder), "shop", address, Partition(1, 1), tmp_path / "parts", FAST
    )
    assert (report.indexed, report.rejected) == (0, 40)
    assert report.rejects_path is not None
    assert len(report.rejects_path.read_text().splitlines()) == 40
