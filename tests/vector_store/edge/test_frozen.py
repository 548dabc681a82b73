"""Reading a version that another process serves and changes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.vector_store.edge.test_processes import line_of, start
from tests.vector_store.local_qdrant import open_local_qdrant
from tests.vector_store.samples import batch, build, features, numbered, spec
from vector_store import open_store
from vector_store.base import SearchOptions
from vector_store.copy import copy_version
from vector_store.edge import EdgeOptions
from vector_store.edge.store import EdgeStore
from vector_store.errors import (
    CatalogNotFoundError,
    StoreUnavailableError,
    VersionConflictError,
    VersionNotFoundError,
)
from vector_store.snapshot import restore_snapshot, write_snapshot

# Serves version v0001 and, for each line it is sent, writes a pair of items; the last pair was acknowledged.
OWNER = """
async with store.open_version("shop") as pinned:
    print("ready", flush=True)
    number = 0
    while await asyncio.to_thread(sys.stdin.readline):
        await pinned.upsert(batch([f"a{number}", f"b{number}"]))
        print(number, flush=True)
        number += 1
"""

# The same without being asked, deleting the pair before.
BUSY = """
async with store.open_version("shop") as pinned:
    print("ready", flush=True)
    for number in range(10**6):
        await pinned.upsert(batch([f"a{number}", f"b{number}"]))
        if number:
            await pinned.delete([f"a{number - 1}", f"b{number - 1}"])
        print(number, flush=True)
"""


def left(root: Path) -> list[str]:
    return sorted(os.listdir(root / "copies"))


@pytest.mark.service
async def test_a_served_version_is_read_as_it_stands(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path)
    vectors = features(50)
    await build(store, "shop", batch(numbered(50), vectors))
    await store.close()
    owner = await start(tmp_path, OWNER)
    assert owner.stdin is not None
    assert await line_of(owner) == "ready"
    owner.stdin.write(b"\n")
    assert await line_of(owner) == "0"
    store = EdgeStore(tmp_path)
    async with store.open_frozen_version("shop") as pinned:
        assert pinned.info.points == await pinned.count() == 52
        found = await pinned.retrieve(["i007", "a0"], with_features=True)
        item = found["i007"]
        assert item.features is not None
        np.testing.assert_allclose(item.features, vectors[7], rtol=1e-5, atol=1e-6)
        assert (await pinned.query(vectors[9], limit=1))[0].item.id == "i009"
        # What is written from now on is not in it.
        owner.stdin.write(b"\n")
        assert await line_of(owner) == "1"
        assert await pinned.count() == 52
        with pytest.raises(VersionConflictError, match="read from a copy"):
            await pinned.delete(["i007"])
        assert len(left(tmp_path)) == 2
        async with store.open_frozen_version("shop", "v0001") as second:
            assert await second.count() == 54
        with pytest.raises(VersionNotFoundError):
            async with store.open_frozen_version("shop", "v0009"):
                pass
    assert left(tmp_path) == []
    # The owner is none the wiser.
    owner.stdin.write(b"\n")
    assert await line_of(owner) == "2"
    owner.stdin.close()
    await owner.wait()
    async with store.open_version("shop") as pinned:
        assert await pinned.count() == 56
    await store.close()


@pytest.mark.service
async def test_copies_under_writes_hold_whole_pairs(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path)
    await build(store, "shop", batch(numbered(20), features(20)))
    await store.close()
    owner = await start(tmp_path, BUSY)
    assert await line_of(owner) == "ready"
    store = EdgeStore(tmp_path)
    for _ in range(8):
        acknowledged = int(await line_of(owner))
        async with store.open_frozen_version("shop") as pinned:
            items, cursor = await pinned.scroll(limit=100)
            assert cursor == ""
            ids = {item.id for item in items}
            assert ids >= set(numbered(20))
            pairs = {int(item_id[1:]) for item_id in ids - set(numbered(20))}
            assert {f"{letter}{number}" for number in pairs for letter in "ab"} <= ids
            # The pair before may be there still, when the copy was made between the two changes.
            assert max(pairs) >= acknowledged
            assert sorted(pairs) in ([max(pairs)], [max(pairs) - 1, max(pairs)])
            exact = await pinned.query(features(20)[3], limit=3, options=SearchOptions(exact=True))
            assert exact[0].item.id == "i003"
    owner.kill()
    await owner.communicate()
    await store.close()


@pytest.mark.service
async def test_a_served_catalog_is_copied_and_snapshotted(tmp_path: Path) -> None:
    root = tmp_path / "store"
    async with open_store(f"edge://{root}") as store:
        await build(store, "shop", batch(numbered(30), features(30)))
    owner = await start(root, BUSY)
    assert await line_of(owner) == "ready"
    store = open_store(f"edge://{root}")
    target = open_local_qdrant()
    for step in range(3):
        info = await copy_version(store, target, "shop")
        assert info.points >= 30
        assert (await write_snapshot(store, "shop", tmp_path / f"{step}")).points >= 30
        assert (await restore_snapshot(target, tmp_path / f"{step}", catalog="again")).points >= 30
    owner.kill()
    await owner.communicate()
    await store.close()
    await target.close()


@pytest.mark.service
async def test_copies_of_a_dead_process_are_removed(tmp_path: Path) -> None:
    async with open_store(f"edge://{tmp_path}") as store:
        await build(store, "shop", batch(numbered(5)))
        async with store.open_version("shop"):
            reading = (
                'async with store.open_frozen_version("shop") as pinned:\n'
                "    print(await pinned.count(), flush=True)\n"
                "    await asyncio.to_thread(sys.stdin.readline)"
            )
            other = await start(tmp_path, reading)
            assert await line_of(other) == "5"
            assert len(left(tmp_path)) == 2
            other.kill()
            await other.communicate()
            other = await start(tmp_path, reading)
            assert await line_of(other) == "5"
            assert len(left(tmp_path)) == 2
            await other.communicate(b"\n")
            assert left(tmp_path) == []


async def test_refusals(tmp_path: Path) -> None:
    owner, other = EdgeStore(tmp_path), EdgeStore(tmp_path)
    with pytest.raises(CatalogNotFoundError):
        async with other.open_frozen_version("shop"):
            pass
    await build(owner, "shop", batch(["a"]))
    full = EdgeStore(tmp_path, options=EdgeOptions(min_free_bytes=1 << 60))
    async with owner.open_version("shop"):
        with pytest.raises(StoreUnavailableError, match=r"cannot copy version v0001 .* is full"):
            async with full.open_frozen_version("shop"):
                pass
        writer = await owner.create_version("shop", spec({}))
        with pytest.raises(VersionConflictError, match="still being built"):
            async with other.open_frozen_version("shop", "v0002"):
                pass
        await writer.abort()
        # Closing the store closes what is being read; the block then ends without an error.
        async with other.open_frozen_version("shop") as pinned:
            assert list(await pinned.retrieve(["a"])) == ["a"]
            await other.close()
            with pytest.raises(StoreUnavailableError, match="is closed"):
                await pinned.count()
    assert left(tmp_path) == []
    await full.close()
    await owner.close()


async def test_reading_does_not_keep_a_service_from_opening(tmp_path: Path) -> None:
    async with EdgeStore(tmp_path) as store, EdgeStore(tmp_path) as service:
        await build(store, "shop", batch(["a"]))
        async with store.open_frozen_version("shop") as frozen, service.open_version("shop") as pinned:
            await pinned.upsert(batch(["b"]))
            assert [await opened.count() for opened in (frozen, pinned)] == [1, 2]
        # Whoever has it open needs no copy.
        async with service.open_frozen_version("shop") as pinned:
            assert await pinned.count() == 2
            assert left(tmp_path) == []
