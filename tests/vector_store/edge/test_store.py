"""The embedded store within one process: files, indexes, closing."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service_runtime.files import check_seal, seal
from tests.vector_store.samples import batch, build, features, numbered, spec, storage_of
from vector_store import open_store
from vector_store.base import SearchOptions
from vector_store.edge.catalogs import EdgeCatalogs
from vector_store.edge.config import INDEXING_THRESHOLD_KB
from vector_store.edge.files import EdgeLayout
from vector_store.edge.store import EdgeStore
from vector_store.edge.sums import Coverage
from vector_store.errors import (
    StoreDamagedError,
    StoreLockedError,
    StoreUnavailableError,
    VersionConflictError,
)
from vector_store.types import Quantization, VersionState


async def test_files_are_where_the_layout_says(tmp_path: Path) -> None:
    store = open_store(f"edge://{tmp_path}/with%20space")
    await build(store, "shop", batch(["a"]))
    await store.close()
    root = tmp_path / "with space"
    current = json.loads((root / "catalogs/shop/CURRENT").read_text())
    assert (current["published"], current["earlier"]) == ("v0001", [])
    document = json.loads((root / "catalogs/shop/versions/v0001/version.json").read_text())
    assert (document["points"], document["complete"]) == (1, True)
    assert not list(root.rglob("*.tmp"))


async def test_a_store_that_does_not_exist_yet_is_empty(tmp_path: Path) -> None:
    store = open_store(f"edge://{tmp_path}/later")
    assert await store.list_catalogs() == []
    assert (await store.check())["engine"] == "qdrant-edge"
    await store.close()
    assert not (tmp_path / "later").exists()


@pytest.mark.service
async def test_finish_builds_the_graph_and_int8_above_the_threshold(tmp_path: Path) -> None:
    dimension = 256
    count = 1024 * INDEXING_THRESHOLD_KB // (4 * dimension) + 500
    vectors = features(count, dimension=dimension)
    store = EdgeStore(tmp_path, quantize_above_bytes=4 * dimension * count - 1)
    chosen = spec({}, dimension=dimension, hnsw_m=8, hnsw_ef_construct=32, vectors_on_disk=True)
    ids = [f"i{row}" for row in range(count)]
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    writer = await store.create_version("shop", chosen)
    await writer.upsert(batch(ids, vectors))
    ticking = asyncio.create_task(tick())
    info = await writer.finish()
    ticking.cancel()
    # Building holds the interpreter lock of its process, which therefore is not this one.
    assert ticks > 10
    shard = tmp_path / "catalogs/shop/versions/v0001/shard"
    assert "int8" in (shard / "edge_config.json").read_text()
    assert storage_of(shard) == {"Mmap", "ChunkedMmap"}
    assert info.spec.index.quantization is Quantization.AUTO
    await store.publish("shop", "v0001")
    async with store.open_version("shop") as pinned:
        assert await pinned.unindexed() == 0
        for row in range(0, count, 1000):
            exact = await pinned.query(vectors[row], limit=1, options=SearchOptions(exact=True))
            assert exact[0].item.id == f"i{row}"
            # The graph need not find everything, but what it finds is scored with the full vector.
            found = await pinned.query(vectors[row], limit=5)
            for scored in found:
                cosine = vectors[row] @ vectors[int(scored.item.id[1:])]
                cosine /= np.linalg.norm(vectors[row]) * np.linalg.norm(vectors[int(scored.item.id[1:])])
                assert scored.score == pytest.approx(float(cosine), abs=1e-5)
    await store.close()


@pytest.mark.parametrize("on_disk", [False, True])
async def test_compressing_leaves_full_vectors_where_they_were(tmp_path: Path, on_disk: bool) -> None:
    store = EdgeStore(tmp_path, quantize_above_bytes=0)
    await build(store, "shop", batch(["a"]), spec({}, vectors_on_disk=on_disk))
    await store.close()
    shard = tmp_path / "catalogs/shop/versions/v0001/shard"
    assert "int8" in (shard / "edge_config.json").read_text()
    assert storage_of(shard) == ({"ChunkedMmap"} if on_disk else {"InRamChunkedMmap"})


@pytest.mark.service
async def test_a_failed_index_build_keeps_the_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vector_store.edge.writer.INDEXING_THRESHOLD_KB", 0)
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('disk full')")
    store = open_store(f"edge://{tmp_path}/store")
    writer = await store.create_version("shop", spec({}))
    await writer.upsert(batch(["a"]))
    with monkeypatch.context() as patch:
        patch.setattr("vector_store.edge.optimize.__file__", str(broken))
        with pytest.raises(StoreUnavailableError, match="exit code 1: disk full; the items are safe"):
            await writer.finish()
    assert [i.state for i in await store.list_versions("shop")] == [VersionState.BUILDING]
    resumed = await store.resume_version("shop", "v0001")
    assert (await resumed.finish()).points == 1
    await store.close()


async def test_two_stores_on_one_folder_exclude_each_other(tmp_path: Path) -> None:
    first, second = open_store(f"edge://{tmp_path}"), open_store(f"edge://{tmp_path}")
    await build(first, "shop", batch(["a"]))
    async with first.open_version("shop"):
        with pytest.raises(StoreLockedError):
            async with second.open_version("shop"):
                pass
    await first.close()
    async with second.open_version("shop") as pinned:
        assert await pinned.count() == 1
    await second.close()


async def test_what_a_newer_program_wrote_is_refused_and_kept(tmp_path: Path) -> None:
    store = open_store(f"edge://{tmp_path}")
    for item in ("a", "b"):
        await build(store, "shop", batch([item]))
    await store.close()
    path = EdgeLayout(tmp_path).document("shop", "v0002")
    ours = check_seal(json.loads(path.read_text()), unsealed=())
    path.write_text(json.dumps(seal({**ours, "format": 3, "more": [1]})))
    store = open_store(f"edge://{tmp_path}")
    with pytest.raises(StoreUnavailableError, match="has format 3, and this program reads formats up to 2"):
        async with store.open_version("shop"):
            pass
    for item in ("c", "d", "e"):
        await build(store, "shop", batch([item]), keep=1)
    assert [info.version for info in await store.list_versions("shop")][-1] == "v0005"
    await store.close()
    path.write_text(json.dumps(seal(ours)))
    store = open_store(f"edge://{tmp_path}")
    async with store.open_version("shop", "v0002") as pinned:
        assert await pinned.count() == 1
    await store.close()


@pytest.mark.service
async def test_close_lets_running_calls_finish(tmp_path: Path) -> None:
    store = open_store(f"edge://{tmp_path}")
    await build(store, "shop", batch(numbered(300), features(300)))
    async with store.open_version("shop") as pinned:
        running = [asyncio.create_task(pinned.query(v, limit=60)) for v in features(8)]
        await asyncio.sleep(0)
        cancelled = asyncio.create_task(pinned.query(features(1)[0], limit=60))
        await asyncio.sleep(0)
        cancelled.cancel()
        await store.close()
        assert [len(found) for found in await asyncio.gather(*running)] == [60] * 8
        with pytest.raises(StoreUnavailableError, match="closed"):
            await pinned.count()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await store.list_catalogs()
    await store.close()


async def test_closing_the_store_closes_its_writers(tmp_path: Path) -> None:
    async with open_store(f"edge://{tmp_path}") as store:
        writer = await store.create_version("shop", spec({}))
        await writer.upsert(batch(["a"]))
    with pytest.raises(VersionConflictError, match="closed"):
        await writer.finish()
    async with open_store(f"edge://{tmp_path}") as store:
        resumed = await store.resume_version("shop", "v0001")
        assert (await resumed.finish()).points == 1


async def test_damaged_and_unwritable_files(tmp_path: Path) -> None:
    store = open_store(f"edge://{tmp_path}")
    await build(store, "shop", batch(["a"]))
    (tmp_path / "catalogs/shop/versions/v0001/version.json").write_text("{")
    with pytest.raises(StoreUnavailableError, match="damaged"):
        await store.list_versions("shop")
    await store.close()
    (tmp_path / "file").write_text("")
    store = open_store(f"edge://{tmp_path}/file")
    with pytest.raises(StoreUnavailableError, match="cannot use the store's files"):
        await store.create_version("shop", spec({}))
    await store.close()


async def test_online_changes_are_counted_in_the_listing_after_reopening(tmp_path: Path) -> None:
    store = open_store(f"edge://{tmp_path}")
    await build(store, "shop", batch(["a"]))
    async with store.open_version("shop") as pinned:
        await pinned.upsert(batch(["b", "c"]))
    await store.close()
    store = open_store(f"edge://{tmp_path}")
    assert [i.points for i in await store.list_versions("shop")] == [3]
    catalogs = EdgeCatalogs(EdgeLayout(tmp_path))
    info = replace(catalogs.version("shop", "v0001"), points=1)
    # As a process leaves it that dies between a change and its note.
    catalogs.write(info, coverage=Coverage.UNCHANGING)
    async with store.open_version("shop") as pinned:
        assert sorted(await pinned.retrieve(["a", "b", "c"])) == ["a", "b", "c"]
        assert pinned.info.points == 3
    await store.close()
    # Where nothing was changed, another number is damage.
    catalogs.write(info, coverage=Coverage.ALL)
    async with open_store(f"edge://{tmp_path}") as store:
        for _ in range(2):
            with pytest.raises(StoreDamagedError, match="it holds 3 items, not 1"):
                async with store.open_version("shop"):
                    pass
