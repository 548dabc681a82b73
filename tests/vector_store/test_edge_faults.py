"""Damaged files, a full disk and a read-only one, under an embedded store."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vector_store import open_store
from vector_store.catalogs import VersionState
from vector_store.edge_errors import engine_errors
from vector_store.edge_options import EdgeOptions
from vector_store.edge_store import EdgeStore
from vector_store.errors import StoreDamaged, StoreUnavailable

from .samples import batch, build, features, numbered, spec


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
    ("edge_config.json", cut, "cannot be read"),
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
            with pytest.raises(StoreDamaged, match=f"{message}.*cir catalogs rollback.*restore"):
                async with store.reader("shop"):
                    pass
        await store.rollback("shop")
        async with store.reader("shop") as reader:
            assert list(await reader.retrieve(["old"])) == ["old"]
        assert "damaged" not in await store.check()


async def test_online_changes_are_no_damage(tmp_path: Path) -> None:
    sums = tmp_path / "catalogs/shop/versions/v0001/sums.json"
    async with open_store(f"edge://{tmp_path}") as store:
        await build(store, "shop", batch(numbered(5)))
        async with store.reader("shop") as reader:
            assert sums.exists()
            await reader.upsert(batch(["new"]))
            # A crash from here on leaves no sums that the files would not agree with.
            assert not sums.exists()
        assert "damaged" not in await store.check()
    assert sums.exists()
    async with open_store(f"edge://{tmp_path}") as store:
        async with store.reader("shop") as reader:
            assert await reader.count() == 6
        cut_path = one(tmp_path / "catalogs/shop/versions/v0001/shard", "mutable_id_tracker.versions")
    cut(cut_path)
    async with open_store(f"edge://{tmp_path}") as store:
        with pytest.raises(StoreDamaged):
            async with store.reader("shop"):
                pass


async def test_what_the_engine_itself_finds_is_damage_too(tmp_path: Path) -> None:
    async with open_store(f"edge://{tmp_path}") as store:
        await build(store, "shop", batch(numbered(5)))
    version = tmp_path / "catalogs/shop/versions/v0001"
    (version / "sums.json").unlink()
    # The engine panics over this one, which is no `Exception` in Python.
    cut(one(version / "shard", "vectors/status.dat"))
    async with open_store(f"edge://{tmp_path}") as store:
        with pytest.raises(StoreDamaged, match="cir catalogs restore"):
            async with store.reader("shop"):
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
        with pytest.raises(StoreUnavailable, match=r"disk of .* is full .* make room"):
            await store.create_version("shop", spec({}))
        assert [i.version for i in await store.list_versions("shop")] == ["v0001", "v0002"]
        writer = await store.resume_version("shop", "v0002")
        with pytest.raises(StoreUnavailable, match="cannot write version v0002"):
            await writer.upsert(batch(["b"]))
        await writer.close()
        async with store.reader("shop") as reader:
            with pytest.raises(StoreUnavailable, match="is full"):
                await reader.upsert(batch(["b"]))
            assert [s.item.id for s in await reader.query(features(1)[0], limit=5)] == ["a"]
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
            with pytest.raises(StoreUnavailable, match=r"Read-only file system.*may be written"):
                await act
        with pytest.raises(StoreUnavailable, match="Read-only file system"):
            async with store.reader("shop"):
                pass
