"""Copies of a shard's files, and what the engine never changes in place."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from vector_store.edge_config import INDEXING_THRESHOLD_KB
from vector_store.edge_copy import SHARED, copy_shard, sync_files, used_bytes
from vector_store.edge_store import EdgeStore
from vector_store.points import PayloadBatch

from .samples import batch, build, features, spec

DIMENSION = 256
COUNT = 1024 * INDEXING_THRESHOLD_KB // (4 * DIMENSION) + 300


def digests(shard: Path) -> dict[Path, tuple[int, str]]:
    return {
        path: (path.stat().st_ino, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in shard.rglob("*")
        if path.name in SHARED
    }


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
    async with store.reader("shop") as reader:
        await reader.upsert(batch(["i5", "new"], vectors[:2]))
        await reader.set_payloads(PayloadBatch(["i6", "new"], [{"free": 1}] * 2, ["x.jpg"] * 2))
        await reader.delete(["i7", "i8"])
        copy = tmp_path / "copy"
        copy_shard(shard, copy)
        assert digests(shard) == before
    await store.close()
    store = EdgeStore(tmp_path)
    async with store.reader("shop") as reader:
        await reader.upsert(batch(["i9"], vectors[:1]))
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
