"""Files of an embedded version: copies, damage that is found, and a disk that is full or read-only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.vector_store.samples import batch, build, features, numbered, spec
from vector_store import open_store
from vector_store.edge import EdgeOptions
from vector_store.edge.catalogs import EdgeCatalogs
from vector_store.edge.config import INDEXING_THRESHOLD_KB
from vector_store.edge.files import EdgeLayout, copy_shard, sync_files, used_bytes
from vector_store.edge.shard import engine_errors
from vector_store.edge.store import EdgeStore
from vector_store.edge.sums import SHARED
from vector_store.errors import StoreDamagedError, StoreUnavailableError
from vector_store.types import PayloadBatch, VersionState

DIMENSION = 256
COUNT = 1024 * INDEXING_THRESHOLD_KB // (4 * DIMENSION) + 300


def digests(shard: Path) -> dict[Path, tuple[int, str]]:
    return {
        path: (path.stat().st_ino, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in shard.rglob("*")
        if path.name in SHARED
    }


@pytest.mark.service
async def test_shared_files_are_never_changed_in_place(tmp_path: Path) -> None:
    ids = [f"i{row}" for row in range(COUNT)]
    vectors = features(COUNT, dimension=DIMENSION)
    chosen = spec({}, dimension=DIMENSION, hnsw_m=8, hnsw_ef_construct=32)
    # int8 too, so that every kind of shared file is there.
    store = EdgeStore(tmp_path, quantize_above_bytes=0)
    await build(store, "shop", batch(ids, vectors), chosen)
    shard = tmp_path / "catalogs/shop/versions/v0001/shard"
    before = digests(shard)
    assert {path.name for path in before} == {"matrix.dat", "quantized.data", "links_compressed.bin"}
    async with store.open_version("shop") as pinned:
        await pinned.upsert(batch(["i5", "new"], vectors[:2]))
        await pinned.set_payloads(PayloadBatch(["i6", "new"], [{"free": 1}] * 2, ["x.jpg"] * 2))
        await pinned.delete(["i7", "i8"])
        copy = tmp_path / "copy"
        copy_shard(shard, copy)
        assert digests(shard) == before
    await store.close()
    store = EdgeStore(tmp_path)
    async with store.open_version("shop") as pinned:
        await pinned.upsert(batch(["i9"], vectors[:1]))
    await store.close()
    assert digests(shard) == before
    # They are shared, everything else is not.
    assert {path.name: inode for path, (inode, _) in digests(copy).items()} == {
        path.name: inode for path, (inode, _) in before.items()
    }
    inodes = {path.stat().st_ino for path in shard.rglob("*") if path.is_file() and path.name not in SHARED}
    copied = [path for path in copy.rglob("*") if path.is_file() and path.name not in SHARED]
    assert copied
    assert not [path for path in copied if path.stat().st_ino in inodes]


def test_holes_stay_holes_and_content_is_equal(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "segments" / "one").mkdir(parents=True)
    path = source / "segments" / "one" / "page.dat"
    with path.open("wb") as file:
        file.seek((8 << 20) + 5)
        file.write(b"content")
        file.truncate(16 << 20)
    (source / "empty").touch()
    copy_shard(source, tmp_path / "copy")
    copied = tmp_path / "copy" / "segments" / "one" / "page.dat"
    assert copied.read_bytes() == path.read_bytes()
    assert (tmp_path / "copy" / "empty").read_bytes() == b""
    assert used_bytes(tmp_path / "copy") <= 2 << 20
    sync_files(tmp_path / "copy")


def test_a_source_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        copy_shard(tmp_path / "nowhere", tmp_path / "copy")


def test_without_hard_links_everything_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "matrix.dat").write_bytes(b"vectors")

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    copy_shard(source, tmp_path / "copy")
    copied = tmp_path / "copy" / "matrix.dat"
    assert copied.read_bytes() == b"vectors"
    assert copied.stat().st_ino != (source / "matrix.dat").stat().st_ino


def one(shard: Path, pattern: str) -> Path:
    return next(iter(sorted(shard.rglob(pattern))))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(content)


DAMAGE: list[tuple[str, Callable[[Path], None], str]] = [
    ("mutable_id_tracker.mappings", cut, "bytes, not"),
    ("mutable_id_tracker.mappings", flip, "was altered"),
    ("vectors/chunk_0.mmap", cut, "bytes, not"),
    ("vectors/config.json", flip, "was altered"),
    ("vectors/status.dat", cut, "bytes, not"),
    ("payload_storage/page_0.dat", Path.unlink, "is missing"),
    ("segment.json", flip, "was altered"),
    ("edge_config.json", cut, "bytes, not"),
    ("wal/open-1", flip, "was altered"),
    ("edge_config.json", Path.unlink, "is missing"),
]


@pytest.mark.parametrize(("pattern", "damage", "message"), DAMAGE)
async def test_damage_is_found_and_another_version_answers(
    tmp_path: Path, pattern: str, damage: Callable[[Path], None], message: str
) -> None:
    async with open_store(f"edge://{tmp_path}") as store:
        await build(store, "shop", batch(["old"]))
        await build(store, "shop", batch(numbered(20), features(20)))
        assert "damaged" not in await store.check()
    damage(one(tmp_path / "catalogs/shop/versions/v0002/shard", pattern))
    async with open_store(f"edge://{tmp_path}") as store:
        facts = await store.check()
        assert "version v0002 of catalog 'shop' is damaged" in facts["damaged"]
        for _ in range(2):
            with pytest.raises(StoreDamagedError, match=f"{message}.*cir catalogs rollback.*restore"):
                async with store.open_version("shop"):
                    pass
        await store.rollback("shop")
        async with store.open_version("shop") as pinned:
            assert list(await pinned.retrieve(["old"])) == ["old"]
        assert "damaged" not in await store.check()


async def test_what_the_engine_itself_finds_is_damage_too(tmp_path: Path) -> None:
    async with open_store(f"edge://{tmp_path}") as store:
        await build(store, "shop", batch(numbered(5)))
    version = tmp_path / "catalogs/shop/versions/v0001"
    catalogs = EdgeCatalogs(EdgeLayout(tmp_path))
    # As versions are that were made before there were sums.
    catalogs.write(catalogs.version("shop", "v0001"))
    # The engine panics over this one, which is no `Exception` in Python.
    cut(one(version / "shard", "vectors/status.dat"))
    async with open_store(f"edge://{tmp_path}") as store:
        with pytest.raises(StoreDamagedError, match="cir catalogs restore"):
            async with store.open_version("shop"):
                pass


def test_interrupts_pass_through() -> None:
    with pytest.raises(KeyboardInterrupt), engine_errors("search"):
        raise KeyboardInterrupt


async def test_a_full_disk_refuses_writes_and_answers_queries(tmp_path: Path) -> None:
    async with EdgeStore(tmp_path) as store:
        await build(store, "shop", batch(["a"]))
        left = await store.create_version("shop", spec({}))
        await left.close()
    async with EdgeStore(tmp_path, options=EdgeOptions(min_free_bytes=1 << 60)) as store:
        with pytest.raises(StoreUnavailableError, match=r"disk of .* is full .* make room"):
            await store.create_version("shop", spec({}))
        assert [i.version for i in await store.list_versions("shop")] == ["v0001", "v0002"]
        writer = await store.resume_version("shop", "v0002")
        with pytest.raises(StoreUnavailableError, match="cannot write version v0002"):
            await writer.upsert(batch(["b"]))
        await writer.close()
        async with store.open_version("shop") as pinned:
            with pytest.raises(StoreUnavailableError, match="is full"):
                await pinned.upsert(batch(["b"]))
            assert [s.item.id for s in await pinned.query(features(1)[0], limit=5)] == ["a"]
    async with EdgeStore(tmp_path) as store:
        writer = await store.resume_version("shop", "v0002")
        await writer.upsert(batch(["b"]))
        assert (await writer.finish()).state is VersionState.READY


async def test_a_read_only_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store(f"edge://{tmp_path}") as store:
        await build(store, "shop", batch(["a"]))
    real = os.open

    def read_only(path: str | Path, flags: int, *mode: int) -> int:
        if flags & os.O_RDWR:
            raise OSError(30, "Read-only file system", str(path))
        return real(path, flags, *mode)

    monkeypatch.setattr("os.open", read_only)
    async with open_store(f"edge://{tmp_path}") as store:
        assert [c.catalog for c in await store.list_catalogs()] == ["shop"]
        for act in (store.publish("shop", "v0001"), store.create_version("shop", spec({}))):
            with pytest.raises(StoreUnavailableError, match=r"Read-only file system.*may be written"):
                await act
        with pytest.raises(StoreUnavailableError, match="Read-only file system"):
            async with store.open_version("shop"):
                pass
