"""`cir catalogs copy`, `snapshot` and `restore` on embedded stores."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from cir_cli.main import run
from vector_store import open_store
from vector_store.types import IndexOptions, Placement, PointBatch, VersionSpec


async def _build(url: str) -> None:
    async with open_store(url) as store:
        writer = await store.create_version("shop", VersionSpec(4, "fp"))
        await writer.upsert(PointBatch(["a", "b"], np.eye(2, 4, dtype=np.float32), [{}, {}], ["", ""]))
        await store.publish("shop", (await writer.finish()).version)


async def _index(url: str, catalog: str) -> IndexOptions:
    async with open_store(url) as store, store.open_version(catalog) as reader:
        return reader.info.spec.index


async def _count(url: str, catalog: str) -> int:
    async with open_store(url) as store, store.open_version(catalog) as reader:
        return await reader.count()


@pytest.mark.slow
def test_copy_snapshot_and_restore(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = f"edge://{tmp_path}/one", f"edge://{tmp_path}/two"
    asyncio.run(_build(one))
    assert run(["catalogs", "copy", "shop", one, two, "--as", "boutique", "--publish"]) == 0
    assert "boutique: version v0001 has 2 items, verified; published" in capsys.readouterr().out
    assert asyncio.run(_count(two, "boutique")) == 2
    assert run(["catalogs", "copy", "shop", one, two, "--publish", "--write-consistency", "2", "--json"]) == 0
    copied = json.loads(capsys.readouterr().out)
    assert copied == {"catalog": "shop", "version": "v0001", "items": 2, "published": True}
    assert asyncio.run(_index(two, "shop")) == IndexOptions(placement=Placement(write_consistency=2))

    folder = str(tmp_path / "snapshot")
    assert run(["catalogs", "snapshot", "shop", folder, "--store", one, "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert written == {"catalog": "shop", "version": "v0001", "items": 2, "folder": folder}
    assert run(["catalogs", "restore", folder, "--store", two]) == 0
    assert "ready: cir catalogs publish shop v0002" in capsys.readouterr().out
    spread = ["--shards", "3", "--replicas", "2"]
    assert run(["catalogs", "restore", folder, "--store", two, "--publish", "--json", *spread]) == 0
    assert json.loads(capsys.readouterr().out) == {**copied, "version": "v0003"}
    assert asyncio.run(_index(two, "shop")) == IndexOptions(placement=Placement(shards=3, replicas=2))
    assert asyncio.run(_count(two, "shop")) == 2


def test_failures_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"edge://{tmp_path}/store"
    for arguments, message in (
        (["copy", "shop", url, url], "no catalog 'shop'"),
        (["copy", "shop", "file:///x", url], "unknown scheme"),
        (["snapshot", "shop", str(tmp_path / "s"), "--store", url], "no catalog 'shop'"),
        (["restore", str(tmp_path / "none"), "--store", url], "no manifest.json"),
    ):
        assert run(["catalogs", *arguments]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
