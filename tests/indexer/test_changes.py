"""Later runs: only what has changed is read, encoded and written, whatever the clocks of files say."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir.common.v1 import errors_pb2
from cir.fields import FieldType
from indexer import FolderSource, IndexingError, IndexingOptions, IndexReport, ManifestSource, index
from indexer.errors import CarryFailed, LedgerError, SyncRefused
from indexer.sources.base import Source
from service_runtime.errors import ServiceError
from tests.indexer.fake_embedder import FakeEmbedder, features_of
from tests.indexer.helpers import fill, jpeg, stored
from tests.vector_store.local_qdrant import open_local_qdrant
from vector_store import VectorStore, open_store
from vector_store.errors import StoreUnavailableError
from vector_store.types import VersionState

pytestmark = pytest.mark.service

FAST = IndexingOptions(connect_seconds=0.3, retry_seconds=3.0, write_items=10)


def with_(**changes: Any) -> IndexingOptions:
    return replace(FAST, **changes)


def settle(folder: Path) -> None:
    """Give files a time of change that is old enough to be trusted."""
    for path in folder.rglob("*.jpg"):
        os.utime(path, (1_600_000_000, 1_600_000_000))


def ids_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.jpg")}


def encoded(embedder: FakeEmbedder) -> int:
    count = sum(len(request.images) for request in embedder.batches)
    embedder.batches.clear()
    return count


async def check_whole(store: VectorStore, folder: Path, ids: set[str]) -> None:
    items = await stored(store)
    assert items.keys() == ids
    for item_id, item in items.items():
        features = item.features
        assert features is not None
        assert item.payload["filename"] == Path(item_id).name
        np.testing.assert_allclose(
            features, features_of((folder / item_id).read_bytes()), rtol=1e-4, atol=1e-4
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fill(tmp_path / "photos", 20)
    settle(tmp_path / "photos")
    return tmp_path / "photos"


async def test_nothing_is_read_encoded_or_published_when_nothing_has_changed(
    folder: Path, store: VectorStore, embedder: FakeEmbedder, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await index(FolderSource(folder), "shop", store, address, FAST)
    assert encoded(embedder) == 20
    with monkeypatch.context() as patched:
        patched.setattr("indexer.changes.read_image", lambda *_: pytest.fail("an image was read"))
        second = await index(FolderSource(folder), "shop", store, address, FAST)
    assert (second.published, second.version, second.unchanged) == (False, first.version, 20)
    assert second.read == 20
    third = await index(FolderSource(folder), "shop", store, address, with_(checksum=True))
    assert (third.published, third.unchanged) == (False, 20)
    assert encoded(embedder) == 0
    assert len(await store.list_versions("shop")) == 1


@pytest.mark.parametrize("keep_features", [False, True])
async def test_only_new_and_changed_images_are_encoded(
    folder: Path, store: VectorStore, embedder: FakeEmbedder, address: str, keep_features: bool
) -> None:
    options = with_(keep_features=keep_features)
    await index(FolderSource(folder), "shop", store, address, options)
    encoded(embedder)
    ids = ids_in(folder)
    (folder / "0001.jpg").write_bytes(jpeg(500))
    (folder / "new.jpg").write_bytes(jpeg(501))
    (folder / "0002.jpg").rename(folder / "renamed.jpg")
    os.utime(folder / "0004.jpg")
    dry = await index(FolderSource(folder), "shop", store, address, with_(dry_run=True))
    assert encoded(embedder) == 0
    report = await index(
        FolderSource(folder), "shop", store, address, with_(sync=True, keep_features=keep_features)
    )
    assert encoded(embedder) == 2
    expected = {"new": 1, "changed": 1, "renamed": 1, "unchanged": 18, "payload_only": 0, "carried": 0}
    assert report.changes == dry.changes == expected
    assert (dry.published, dry.version) == (False, "v0001")
    assert (report.read, report.indexed, report.unchanged, report.deleted) == (21, 2, 19, 1)
    await check_whole(store, folder, ids - {"0002.jpg"} | {"new.jpg", "renamed.jpg"})


async def test_payloads_alone_are_written_without_encoding(
    tmp_path: Path, folder: Path, store: VectorStore, embedder: FakeEmbedder, address: str
) -> None:
    manifest = tmp_path / "m.jsonl"

    def write(price: float) -> Source:
        rows = [
            {"id": "a", "image": "photos/0001.jpg", "price": price},
            {"id": "b", "image": "photos/0002.jpg"},
        ]
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return ManifestSource(manifest)

    await index(write(1.5), "shop", store, address, FAST)
    encoded(embedder)
    report = await index(write(2.5), "shop", store, address, FAST)
    assert (report.changes["payload_only"], report.changes["unchanged"], report.indexed) == (1, 1, 0)
    assert encoded(embedder) == 0
    assert (await stored(store))["a"].payload == {"price": 2.5}


async def test_another_model_encodes_everything(
    folder: Path, store: VectorStore, embedder: FakeEmbedder, address: str
) -> None:
    await index(FolderSource(folder), "shop", store, address, FAST)
    encoded(embedder)
    embedder.fingerprint = "another"
    shutil.move(folder / "0001.jpg", folder.parent / "0001.jpg")
    with pytest.raises(CarryFailed, match=r"0001\.jpg.*`sync`"):
        await index(FolderSource(folder), "shop", store, address, FAST)
    shutil.move(folder.parent / "0001.jpg", folder / "0001.jpg")
    report = await index(FolderSource(folder), "shop", store, address, FAST)
    assert (report.indexed, encoded(embedder), report.model_fingerprint) == (20, 20, "another")


async def test_what_is_gone_stays_without_sync_and_its_image_is_known_when_it_comes_back(
    folder: Path, store: VectorStore, embedder: FakeEmbedder, address: str
) -> None:
    await index(FolderSource(folder), "shop", store, address, FAST)
    before = await stored(store)
    encoded(embedder)
    moved = folder.parent / "away.jpg"
    shutil.move(folder / "0001.jpg", moved)
    (folder / "new.jpg").write_bytes(jpeg(700))
    report = await index(FolderSource(folder), "shop", store, address, FAST)
    assert (report.carried, report.deleted, encoded(embedder)) == (1, 0, 1)
    after = await stored(store)
    assert after.keys() == before.keys() | {"new.jpg"}
    assert after["0001.jpg"].payload == before["0001.jpg"].payload
    shutil.move(moved, folder / "0001.jpg")
    assert not (await index(FolderSource(folder), "shop", store, address, FAST)).published
    assert encoded(embedder) == 0


@pytest.mark.parametrize("ledger_lost", [False, True])
async def test_sync_refuses_to_delete_much(
    folder: Path, store: VectorStore, address: str, ledger_lost: bool
) -> None:
    await index(FolderSource(folder), "shop", store, address, FAST)
    if ledger_lost:
        (folder.parent / "shop.ledger.sqlite").unlink()
    for item_id in sorted(ids_in(folder))[:8]:
        (folder / item_id).unlink()
    with pytest.raises(SyncRefused, match=r"8 of 20 .*0\.3.*`allow_delete`"):
        await index(FolderSource(folder), "shop", store, address, with_(sync=True))
    assert len(await stored(store)) == 20
    report = await index(FolderSource(folder), "shop", store, address, with_(sync=True, allow_delete=True))
    assert report.deleted == 8
    assert len(await stored(store)) == 12


async def test_an_image_that_became_unreadable_keeps_what_was_published(
    folder: Path, store: VectorStore, embedder: FakeEmbedder, address: str
) -> None:
    await index(FolderSource(folder), "shop", store, address, FAST)
    before = await stored(store)
    (folder / "0001.jpg").write_bytes(b"broken")
    (folder / "new.jpg").write_bytes(jpeg(701))
    report = await index(FolderSource(folder), "shop", store, address, with_(sync=True))
    assert (report.rejected, report.carried, report.indexed) == (1, 1, 1)
    assert (await stored(store)).keys() == before.keys() | {"new.jpg"}
    again = await index(FolderSource(folder), "shop", store, address, with_(sync=True))
    assert (again.published, again.rejected, again.version) == (False, 1, report.version)


async def test_rejects_that_stay_the_same_publish_nothing_new(
    folder: Path, store: VectorStore, address: str
) -> None:
    first = await index(FolderSource(folder), "shop", store, address, FAST)
    (folder / "bad.jpg").write_bytes(b"no image")
    settle(folder)
    for _ in range(2):
        report = await index(FolderSource(folder), "shop", store, address, FAST)
        assert (report.published, report.rejected, report.version) == (False, 1, first.version)
        assert report.rejects_path is not None
        assert len(report.rejects_path.read_text().splitlines()) == 1
    assert [info.state for info in await store.list_versions("shop")] == [VersionState.PUBLISHED]


async def test_an_interrupted_run_is_gone_on_with(
    folder: Path, store: VectorStore, embedder: FakeEmbedder, address: str
) -> None:
    async def fail(calls: int) -> None:
        if calls == 3:
            embedder.call_faults.append(ServiceError(errors_pb2.FINGERPRINT_MISMATCH, "broken"))

    embedder.before_answer = fail
    options = with_(calls_in_flight=1)
    with pytest.raises(IndexingError):
        await index(FolderSource(folder), "shop", store, address, options)
    (left,) = await store.list_versions("shop")
    assert left.state is VersionState.BUILDING
    embedder.before_answer = None
    encoded(embedder)
    (folder / "sub" / "0000.jpg").unlink()  # written already, or not: it is gone
    report = await index(FolderSource(folder), "shop", store, address, options)
    assert (report.resumed, report.version, report.indexed) == (True, left.version, 19)
    assert encoded(embedder) < 16
    ids = ids_in(folder)
    await check_whole(store, folder, ids)


STRAY = "id,image,price\na,0001.jpg,1.5\nb,0002.jpg,2.5\nc,0004.jpg,cheap\nd,0005.jpg,3.5\n"


@pytest.fixture
async def stray(tmp_path: Path, store: VectorStore, address: str) -> Path:
    """A manifest published with a stray text among its prices, which are therefore texts."""
    fill(tmp_path, 6)
    manifest = tmp_path / "m.csv"
    manifest.write_text(STRAY)
    await index(ManifestSource(manifest), "shop", store, address, FAST)
    assert (await stored(store))["a"].payload == {"price": "1.5"}
    return manifest


def drop_line(path: Path, word: str) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if word not in line))


def priced(manifest: Path) -> Source:
    return ManifestSource(manifest, schema={"price": FieldType.FLOAT})


@pytest.mark.parametrize("sync", [False, True])
async def test_what_an_earlier_run_rejected_does_not_bind_the_next(
    stray: Path, store: VectorStore, address: str, sync: bool
) -> None:
    with pytest.raises(CarryFailed, match=r"'c'.*`sync` and `allow_delete`"):
        await index(priced(stray), "shop", store, address, with_(sync=sync))
    drop_line(stray, "cheap")
    report = await index(priced(stray), "shop", store, address, with_(sync=True))
    assert (report.published, report.resumed, report.deleted, report.rejected) == (True, True, 1, 0)
    assert {item_id: item.payload for item_id, item in (await stored(store)).items()} == {
        "a": {"price": 1.5},
        "b": {"price": 2.5},
        "d": {"price": 3.5},
    }


async def test_rejected_items_whose_published_form_no_longer_fits_are_deleted_by_leave(
    stray: Path, store: VectorStore, address: str
) -> None:
    options = with_(sync=True, allow_delete=True)
    report = await index(priced(stray), "shop", store, address, options)
    assert (report.published, report.deleted, report.rejected, report.carried) == (True, 1, 1, 0)
    assert (await stored(store)).keys() == {"a", "b", "d"}
    again = await index(priced(stray), "shop", store, address, FAST)
    assert (again.published, again.rejected) == (False, 1)


async def test_a_version_that_was_finished_but_not_published_is_published(
    folder: Path, store: VectorStore, embedder: FakeEmbedder, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailableError("away")

    with monkeypatch.context() as patched:
        patched.setattr(store, "publish", away)
        with pytest.raises(IndexingError, match="away"):
            await index(FolderSource(folder), "shop", store, address, FAST)
    encoded(embedder)
    report = await index(FolderSource(folder), "shop", store, address, FAST)
    assert (report.published, encoded(embedder)) == (True, 0)
    assert [info.state for info in await store.list_versions("shop")] == [VersionState.PUBLISHED]
    assert len(await stored(store)) == 20


async def test_a_published_version_that_another_process_serves_costs_no_encoding(
    folder: Path, store: VectorStore, embedder: FakeEmbedder, address: str
) -> None:
    options = with_(keep_features=True)
    await index(FolderSource(folder), "shop", store, address, options)
    await store.close()
    encoded(embedder)
    (folder / "new.jpg").write_bytes(jpeg(702))
    root = folder.parent / "store"
    async with open_store(f"edge://{root}") as serving, serving.open_version("shop") as pinned:
        async with open_store(f"edge://{root}") as building:
            report = await index(FolderSource(folder), "shop", building, address, options)
            assert (report.indexed, report.unchanged, encoded(embedder)) == (1, 20, 1)
            (folder / "0001.jpg").unlink()
            (folder / "other.jpg").write_bytes(jpeg(703))
        assert await pinned.count() == 20
    async with (
        open_store(f"edge://{root}") as serving,
        serving.open_version("shop"),
        open_store(f"edge://{root}") as building,
    ):
        await index(FolderSource(folder), "shop", building, address, options)
        async with building.open_version("shop") as reader:
            assert sorted(await reader.retrieve(["0001.jpg", "other.jpg"])) == ["0001.jpg", "other.jpg"]


async def test_ledgers(folder: Path, store: VectorStore, embedder: FakeEmbedder, address: str) -> None:
    path = folder.parent / "shop.ledger.sqlite"

    async def run(**options: object) -> IndexReport:
        return await index(FolderSource(folder), "shop", store, address, with_(**options))

    await run()
    encoded(embedder)
    path.write_bytes(path.read_bytes()[:4096] + bytes(8192))
    with pytest.raises(LedgerError, match="`rebuild_ledger`"):
        await run()
    report = await run(rebuild_ledger=True)
    assert not report.published
    assert encoded(embedder) == 0
    path.write_text("this is no database, it is a text" * 100)
    with pytest.raises(LedgerError, match=r"damaged.*`rebuild_ledger`"):
        await run()
    path.unlink()
    report = await run()
    assert (report.indexed, encoded(embedder)) == (20, 20)
    assert any("`rebuild_ledger`" in note for note in report.notes)
    with pytest.raises(LedgerError, match="belongs to catalog 'shop'"):
        await index(FolderSource(folder), "other", store, address, with_(ledger_path=path))


async def test_a_ledger_belongs_to_one_run_at_a_time(
    folder: Path, store: VectorStore, embedder: FakeEmbedder, address: str
) -> None:
    reached, go = asyncio.Event(), asyncio.Event()

    async def hold(_: int) -> None:
        reached.set()
        await go.wait()

    embedder.before_answer = hold
    run = asyncio.create_task(index(FolderSource(folder), "shop", store, address, FAST))
    await reached.wait()
    with pytest.raises(LedgerError, match="in use by another run"):
        await index(FolderSource(folder), "shop", store, address, FAST)
    go.set()
    assert (await run).complete


async def test_near_duplicates_are_listed_once(folder: Path, store: VectorStore, address: str) -> None:
    shutil.copy(folder / "0001.jpg", folder / "twin.jpg")
    path = folder.parent / "alike.jsonl"
    report = await index(FolderSource(folder), "shop", store, address, with_(near_duplicates_path=path))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["a"], line["b"]) for line in lines] == [("0001.jpg", "twin.jpg")]
    assert lines[0]["cosine"] > 0.999
    assert report.near_duplicates == 1


PAST, FUTURE = 1_600_000_000, int(time.time()) + 365 * 86_400


def write_at(path: Path, letter: str, when: int) -> None:
    """Bytes of one size whatever they say."""
    path.write_bytes(b"\xff\xd8" + letter.encode() * 100 + b"\xff\xd9")
    os.utime(path, (when, when))


async def run_on(store: VectorStore, path: Path, address: str, *, checksum: bool = False) -> IndexReport:
    options = IndexingOptions(ledger_path=path.parent.parent / "ledger.sqlite", checksum=checksum)
    return await index(FolderSource(path.parent), "shop", store, address, options)


@pytest.fixture
def image_file(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos" / "a.jpg"


async def test_a_time_in_the_future_is_not_trusted(
    image_file: Path, embedder: FakeEmbedder, address: str
) -> None:
    async with open_local_qdrant() as store:
        write_at(image_file, "a", FUTURE)
        await run_on(store, image_file, address)
        assert not (await run_on(store, image_file, address)).published
        write_at(image_file, "b", FUTURE)
        assert (await run_on(store, image_file, address)).changes["changed"] == 1


async def test_equal_times_need_checksum(image_file: Path, embedder: FakeEmbedder, address: str) -> None:
    async with open_local_qdrant() as store:
        write_at(image_file, "a", PAST)
        await run_on(store, image_file, address)
        write_at(image_file, "b", PAST)
        assert not (await run_on(store, image_file, address)).published
        assert (await run_on(store, image_file, address, checksum=True)).changes["changed"] == 1


async def test_a_time_that_went_back_is_read_and_only_other_bytes_are_encoded(
    image_file: Path, embedder: FakeEmbedder, address: str
) -> None:
    async with open_local_qdrant() as store:
        write_at(image_file, "a", PAST)
        await run_on(store, image_file, address)
        write_at(image_file, "a", PAST - 86_400)
        assert not (await run_on(store, image_file, address)).published
        write_at(image_file, "b", PAST - 2 * 86_400)
        assert (await run_on(store, image_file, address)).changes["changed"] == 1
    assert len(embedder.batches) == 2
