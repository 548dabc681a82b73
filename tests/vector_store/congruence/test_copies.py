"""Snapshots, restoring them, and copies from engine to engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from tests.vector_store.local_qdrant import open_local_qdrant
from vector_store import VectorStore, open_store
from vector_store.copy import copy_version
from vector_store.errors import CopyMismatchError, SnapshotDamagedError, StoreUnavailableError
from vector_store.snapshot import check_snapshot, restore_snapshot, write_snapshot
from vector_store.types import VersionInfo, VersionState

from ..samples import ODD, batch, build, features, numbered, spec

COUNT = 25
PAYLOADS: list[dict[str, Any]] = [
    {
        "size": row,
        "price": row / 3,
        "sale": row % 2 == 0,
        "title": f"Naïve Größe {row}\u2028\n",
        "shop": {"lat": 1.5, "lon": -2.0},
        "added": "2024-05-01T10:00:00Z",
        "free": ["a", "x"],
        ODD: [f"v{row}"],
    }
    for row in range(COUNT)
]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vector_store.copy.PAGE_ITEMS", 10)


@pytest.fixture(params=["edge", "local"])
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[VectorStore]:
    opened = open_store(f"edge://{tmp_path}/target") if request.param == "edge" else open_local_qdrant()
    yield opened
    await opened.close()


async def shop(store: VectorStore, catalog: str) -> VersionInfo:
    return await build(store, catalog, batch(numbered(COUNT), features(COUNT), PAYLOADS), spec())


async def assert_whole(store: VectorStore, catalog: str) -> None:
    async with store.open_version(catalog) as pinned:
        assert await pinned.count() == COUNT
        found = await pinned.retrieve(numbered(COUNT), with_features=True)
        for row, item in enumerate(found.values()):
            assert (item.id, item.image) == (f"i{row:03d}", f"i{row:03d}.jpg")
            assert item.payload == PAYLOADS[row]
            assert item.features is not None
            np.testing.assert_allclose(item.features, features(COUNT)[row], rtol=1e-5, atol=1e-6)
        nearest = await pinned.query(features(COUNT)[3], limit=1)
        assert nearest[0].item.id == "i003"


@pytest.mark.service
async def test_a_copy_on_another_engine(store: VectorStore, catalog: str, target: VectorStore) -> None:
    source = await shop(store, catalog)
    done: list[int] = []
    info = await copy_version(store, target, catalog, target_catalog="copy", on_progress=done.append)
    assert (info.state, info.points, info.spec) == (VersionState.READY, COUNT, source.spec)
    assert done == [10, 20, 25]
    await target.publish("copy", info.version)
    await assert_whole(target, "copy")


@pytest.mark.service
async def test_an_interrupted_copy_is_resumed(
    store: VectorStore, catalog: str, target: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop(store, catalog)

    def stop(done: int) -> None:
        if done == 20:
            raise StoreUnavailableError("the power is out")

    with pytest.raises(StoreUnavailableError, match="power"):
        await copy_version(store, target, catalog, on_progress=stop)
    assert [i.state for i in await target.list_versions(catalog)] == [VersionState.BUILDING]
    written: list[int] = []
    writer = await target.resume_version(catalog, "v0001")
    real = writer.upsert
    with (
        mock.patch.object(target, "resume_version", mock.AsyncMock(return_value=writer)),
        mock.patch.object(writer, "upsert", side_effect=real) as upsert,
    ):
        info = await copy_version(store, target, catalog, resume="v0001")
        written = [len(call.args[0]) for call in upsert.call_args_list]
    assert written == [5]
    await target.publish(catalog, info.version)
    await assert_whole(target, catalog)


@pytest.mark.service
async def test_a_copy_into_what_is_something_else(
    store: VectorStore, catalog: str, target: VectorStore
) -> None:
    await shop(store, catalog)
    other = await target.create_version(catalog, spec({}))
    await other.close()
    with pytest.raises(CopyMismatchError, match="has schema"):
        await copy_version(store, target, catalog, resume="v0001")
    more = await target.create_version(catalog, spec())
    await more.upsert(batch(["more"]))
    await more.close()
    with pytest.raises(CopyMismatchError, match="holds 26 items after 25"):
        await copy_version(store, target, catalog, resume="v0002")
    # A left-over of the same id with another vector is found by the comparison of samples.
    wrong = await target.create_version(catalog, spec())
    await wrong.upsert(batch(numbered(COUNT), features(COUNT, seed=9), PAYLOADS))
    await wrong.close()
    with pytest.raises(CopyMismatchError, match="is not what was copied"):
        await copy_version(store, target, catalog, resume="v0003")
    assert {i.state for i in await target.list_versions(catalog)} == {VersionState.BUILDING}


@pytest.mark.service
async def test_a_snapshot_and_back(
    store: VectorStore, catalog: str, target: VectorStore, tmp_path: Path
) -> None:
    source = await shop(store, catalog)
    folder = tmp_path / "snapshots" / "one"
    assert (await write_snapshot(store, catalog, folder)).version == source.version
    assert len(list(folder.iterdir())) == 7
    with pytest.raises(SnapshotDamagedError, match="holds a snapshot already"):
        await write_snapshot(store, catalog, folder)
    info = await restore_snapshot(target, folder, catalog="restored")
    assert (info.state, info.points, info.spec) == (VersionState.READY, COUNT, source.spec)
    await target.publish("restored", info.version)
    await assert_whole(target, "restored")


async def test_damaged_snapshots_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    store = open_local_qdrant()
    await shop(store, "shop")
    whole = tmp_path / "whole"
    await write_snapshot(store, "shop", whole)

    def flip(folder: Path) -> None:
        path = folder / "page-000001.f32"
        content = bytearray(path.read_bytes())
        content[7] ^= 1
        path.write_bytes(content)

    def cut(folder: Path) -> None:
        path = folder / "page-000000.jsonl"
        path.write_bytes(path.read_bytes()[:-1])

    def fewer(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        del manifest["pages"][0], manifest["sum"]
        (folder / "manifest.json").write_text(json.dumps(manifest))

    def renamed(folder: Path) -> None:
        path = folder / "manifest.json"
        path.write_text(path.read_text().replace('"fp-1"', '"fp-2"'))

    for number, (damage, message) in enumerate(
        [
            (flip, r"page-000001\.f32 is altered"),
            (cut, r"page-000000\.jsonl is altered"),
            (lambda folder: (folder / "page-000002.f32").unlink(), r"page-000002\.f32 is missing"),
            (lambda folder: (folder / "manifest.json").unlink(), r"no manifest\.json"),
            (lambda folder: (folder / "manifest.json").write_text("{"), "is damaged"),
            (lambda folder: (folder / "manifest.json").write_text('{"format": 2}'), "format 2"),
            (lambda folder: (folder / "manifest.json").write_text('{"format": 1}'), "KeyError"),
            (fewer, "do not add up"),
            (renamed, r"manifest\.json is damaged.*checksum"),
        ]
    ):
        folder = tmp_path / f"damaged-{number}"
        shutil.copytree(whole, folder)
        damage(folder)
        with pytest.raises(SnapshotDamagedError, match=message):
            await restore_snapshot(store, folder, catalog="other")
        assert [c.catalog for c in await store.list_catalogs()] == ["shop"]
    manifest = check_snapshot(whole)
    assert manifest["points"] == COUNT
    path = whole / "manifest.json"
    content = path.read_bytes()
    for at in range(0, len(content), 5):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        try:
            assert check_snapshot(whole) == manifest
        except SnapshotDamagedError:
            continue
    path.write_bytes(content)
    # An interrupted one is written anew, a folder with other things in it is left alone.
    (tmp_path / "damaged-3" / "page-000009.f32").write_text("left over")
    await write_snapshot(store, "shop", tmp_path / "damaged-3")
    assert not (tmp_path / "damaged-3" / "page-000009.f32").exists()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(SnapshotDamagedError, match=r"holds 'a\.jpg'"):
        await write_snapshot(store, "shop", tmp_path / "photos")
    (tmp_path / "file").touch()
    with pytest.raises(SnapshotDamagedError, match="cannot write"):
        await write_snapshot(store, "shop", tmp_path / "file")
    await store.close()
