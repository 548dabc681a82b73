"""Verification of a catalog's versions, on both engines and over the command line."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from cir_cli.main import run
from tests.vector_store.engines import engine
from tests.vector_store.local_qdrant import open_local_qdrant
from tests.vector_store.samples import batch, build, features, numbered
from vector_store.edge.catalogs import EdgeCatalogs
from vector_store.edge.files import EdgeLayout
from vector_store.edge.store import EdgeStore
from vector_store.errors import CatalogNotFoundError, VersionNotFoundError
from vector_store.qdrant.points import QdrantPoints
from vector_store.verify import verify_catalog


def shard_of(root: Path, version: str) -> Path:
    return root / "catalogs" / "shop" / "versions" / version / "shard"


def flip(path: Path, at: int) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


async def two_versions(root: Path) -> None:
    async with EdgeStore(root) as store:
        for count in (3, 5):
            await build(store, "shop", batch(numbered(count), features(count)))
        writer = await store.create_version("shop", (await store.list_versions("shop"))[0].spec)
        await writer.close()


async def test_versions_of_an_embedded_store(tmp_path: Path) -> None:
    await two_versions(tmp_path)
    async with EdgeStore(tmp_path) as store:
        checks = await verify_catalog(store, "shop")
        assert [(c.version, c.state, c.problem, c.items) for c in checks] == [
            ("v0001", "retired", "", 0),
            ("v0002", "published", "", 0),
        ]
        assert all(c.bytes_compared > 1 << 20 and not c.bytes_without for c in checks)
        with pytest.raises(VersionNotFoundError):
            await verify_catalog(store, "shop", "v0003")
        with pytest.raises(CatalogNotFoundError):
            await verify_catalog(store, "other")
        # While it is searched and written too; what has no checksums now is read item by item.
        async with store.open_version("shop") as pinned:
            await pinned.upsert(batch(["new"]))
            async with EdgeStore(tmp_path) as other:
                (check,) = await verify_catalog(other, "shop", "v0002")
                assert (check.problem, check.items) == ("", 6)
                assert check.bytes_without > 0
                assert "checksums" in check.remark


async def test_verifying_while_items_are_written_finds_no_damage(tmp_path: Path) -> None:
    await two_versions(tmp_path)
    async with EdgeStore(tmp_path) as store, EdgeStore(tmp_path) as other:

        async def write() -> None:
            for number in range(10):
                async with store.open_version("shop") as pinned:
                    await pinned.upsert(batch([f"n{number}"]))
                await asyncio.sleep(0.01)

        writing = asyncio.create_task(write())
        while not writing.done():
            (check,) = await verify_catalog(other, "shop", "v0002")
            assert check.problem == ""
        await writing


@pytest.mark.service
@pytest.mark.slow
async def test_verifying_on_a_server_while_items_are_written_finds_no_damage(tmp_path: Path) -> None:
    async with engine("grpc", tmp_path) as store:
        await build(store, "shop", batch(numbered(30), features(30)))
        verified = asyncio.Event()

        async def write() -> None:
            number = 0
            async with store.open_version("shop") as pinned:
                while not verified.is_set():
                    number += 1
                    await pinned.upsert(batch(numbered(30), features(30, seed=number)))
                    await pinned.upsert(batch([f"n{number}"]))
                    await pinned.delete([f"n{number - 3}"])

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            for _ in range(5):
                (check,) = await verify_catalog(store, "shop")
                assert check.problem == ""
            verified.set()


@pytest.mark.service
async def test_items_that_a_server_lost_are_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with engine("grpc", tmp_path) as store:
        await build(store, "shop", batch(numbered(30), features(30)))

        async def count(*_: object) -> int:
            return 31

        monkeypatch.setattr(QdrantPoints, "count", count)
        (check,) = await verify_catalog(store, "shop")
        assert check.problem == "30 items can be read of 31"


async def test_versions_on_a_server_are_counted_and_read(tmp_path: Path) -> None:
    async with open_local_qdrant() as store:
        await build(store, "shop", batch(numbered(250), features(250)))
        (check,) = await verify_catalog(store, "shop")
        assert (check.problem, check.items, check.bytes_compared) == ("", 250, 0)
        assert "server" in check.remark


@pytest.mark.slow
def test_the_command_says_what_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(two_versions(tmp_path))
    verify = ["catalogs", "verify", "shop", "--store", f"edge://{tmp_path}"]
    assert run(verify) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0] for line in out] == ["shop v0001: sound", "shop v0002: sound"]
    path = next(shard_of(tmp_path, "v0001").rglob("vectors/chunk_0.mmap"))
    flip(path, 9)
    assert run(verify) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("shop v0001: damaged")
    assert "shop v0002: sound" in captured.out
    assert captured.err.count("\n") == 1
    assert f"{path} was altered" in captured.err
    assert run([*verify, "--version", "v0002"]) == 0
    capsys.readouterr()
    assert run([*verify, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["versions"]
    assert [bool(check["problem"]) for check in found] == [True, False]
    assert EdgeCatalogs(EdgeLayout(tmp_path)).version("shop", "v0001").damaged
    flip(path, 9)
    assert run(verify) == 0
    # Documents and the pointer are verified as well, and a version that is gone is missed.
    current = tmp_path / "catalogs/shop/CURRENT"
    flip(current, 20)
    assert run(verify) == 1
    assert "CURRENT was altered" in capsys.readouterr().err
    flip(current, 20)
    (tmp_path / "catalogs/shop/versions/v0001/version.json").unlink()
    assert run(verify) == 1
    assert "version.json is missing" in capsys.readouterr().err


def test_the_store_of_what_is_up_is_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["catalogs", "verify", "shop", "--data", str(tmp_path)]) == 1
    assert "or give --store" in capsys.readouterr().err
