"""Whole runs: what is published, and what is not."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir.common.v1 import errors_pb2
from cir.fields import FieldType
from indexer import (
    EmbedderFailed,
    FolderSource,
    IndexingError,
    IndexingOptions,
    ManifestSource,
    SourceError,
    TooManyRejects,
    VersionIncomplete,
    index,
)
from indexer.report import report_text
from service_runtime.errors import ServiceError
from tests.indexer.fake_embedder import DIMENSION, FINGERPRINT, FakeEmbedder, features_of, serve
from tests.indexer.helpers import fill, jpeg, stored
from vector_store import VectorStore, open_store
from vector_store.errors import CatalogNotFoundError, InvalidQueryError, StoreUnavailableError
from vector_store.filters import Filter, MatchAny
from vector_store.types import VersionState

pytestmark = pytest.mark.service

FAST = IndexingOptions(connect_seconds=0.3, retry_seconds=5.0, write_items=10)
ALWAYS = replace(FAST, always_publish=True, keep_features=True)


async def versions(store: VectorStore, catalog: str) -> list[VersionState]:
    try:
        return [info.state for info in await store.list_versions(catalog)]
    except CatalogNotFoundError:
        return []


async def test_what_was_passed_over_is_told_at_the_end(
    tmp_path: Path, store: VectorStore, address: str
) -> None:
    fill(tmp_path / "photos", 2)
    for name in ("._0001.jpg", "raw.NEF", "notes.txt"):
        (tmp_path / "photos" / name).write_bytes(b"x")
    report = await index(FolderSource(tmp_path / "photos"), "shop", store, address, FAST)
    assert (report.read, report.rejected, report.complete) == (2, 0, True)
    assert report.passed_over.counts == {"system_file": 1, "format_not_read": 1, "no_image": 1}
    document = json.loads(json.dumps(report.document()))
    assert document["passed_over"]["counts"] == report.passed_over.counts
    assert document["passed_over"]["names"]["format_not_read"] == ["raw.NEF"]
    assert "\npassed over, as no images: format_not_read 1 (raw.NEF), " in report_text(report)


async def test_a_folder_becomes_a_published_catalog(tmp_path: Path, store: VectorStore, address: str) -> None:
    ids = fill(tmp_path / "photos", 50)
    report = await index(FolderSource(tmp_path / "photos"), "shop", store, address, FAST)
    assert (report.read, report.indexed, report.rejected, report.complete) == (50, 50, 0, True)
    assert report.rejects_path is None
    assert report.model_fingerprint == FINGERPRINT
    assert report.images_per_second > 0
    assert not (tmp_path / "photos.shop.rejects.jsonl").exists()
    items = await stored(store, "shop")
    assert sorted(items) == ids
    for item_id, item in items.items():
        path = tmp_path / "photos" / item_id
        assert Path(item.image) == path
        assert item.payload["filename"] == path.name
        assert item.payload.get("folder") == ("sub" if item_id.startswith("sub/") else None)
        assert item.features is not None
        np.testing.assert_allclose(item.features, features_of(path.read_bytes()), rtol=1e-4, atol=1e-4)
    async with store.open_version("shop") as reader:
        spec = reader.info.spec
        assert (spec.dimension, spec.model_fingerprint) == (DIMENSION, FINGERPRINT)
        assert spec.schema == {"folder": FieldType.KEYWORD, "filename": FieldType.KEYWORD}
        assert spec.model == {
            "architecture": "hash",
            "pretrained": "none",
            "preprocessing": "targetpad",
            "target_ratio": "1.25",
            "image_size": "8",
            "dtype": "float32",
        }
        assert reader.info.version == report.version
        assert await reader.count(Filter(must=(MatchAny("folder", ("sub",)),))) == 17


async def test_a_manifest_becomes_a_published_catalog(
    tmp_path: Path, store: VectorStore, address: str
) -> None:
    fill(tmp_path / "photos", 6)
    rows = ["id,image,price,brand"]
    rows += [f"sku-{n},photos/{'sub/' if n % 3 == 0 else ''}{n:04d}.jpg,{n}.5,b{n % 2}" for n in range(6)]
    manifest = tmp_path / "catalog.csv"
    manifest.write_text("\n".join(rows) + "\n")
    report = await index(ManifestSource(manifest), "shop", store, address, FAST)
    assert report.complete
    assert report.schema == {"price": FieldType.FLOAT, "brand": FieldType.KEYWORD}
    items = await stored(store, "shop")
    assert items["sku-4"].payload == {"price": 4.5, "brand": "b0"}
    assert items["sku-4"].image == str(tmp_path / "photos/0004.jpg")


async def test_a_second_run_keeps_ids_and_leaves_the_first_version_to_go_back_to(
    tmp_path: Path, store: VectorStore, address: str
) -> None:
    fill(tmp_path / "photos", 12)
    source = FolderSource(tmp_path / "photos")
    first = await index(source, "shop", store, address, FAST)
    before = set(await stored(store, "shop"))
    second = await index(source, "shop", store, address, ALWAYS)
    assert set(await stored(store, "shop")) == before
    assert await versions(store, "shop") == [VersionState.RETIRED, VersionState.PUBLISHED]
    assert (await store.rollback("shop")).version == first.version != second.version


def spoil(folder: Path) -> dict[str, str]:
    """Add images that cannot be indexed; returns their reasons by id."""
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("this is a text\n")
    (folder / "truncated.jpg").write_bytes(jpeg(7)[:-40])
    (folder / "huge.jpg").write_bytes(b"\xff\xd8" + bytes(100_000))
    os.mkfifo(folder / "pipe.jpg")
    (folder.parent / "outside.jpg").write_bytes(jpeg(8))
    (folder / "link.jpg").symlink_to(folder.parent / "outside.jpg")
    (folder / "dangling.jpg").symlink_to(folder / "nowhere.jpg")
    return {
        "empty.jpg": "IMAGE_EMPTY",
        "text.jpg": "IMAGE_UNREADABLE",
        "truncated.jpg": "IMAGE_TRUNCATED",
        "huge.jpg": "IMAGE_TOO_MANY_BYTES",
        "link.jpg": "IMAGE_OUTSIDE_ROOT",
        "dangling.jpg": "IMAGE_MISSING",
    }


async def test_bad_images_are_rejected_and_the_run_goes_on(
    tmp_path: Path, store: VectorStore, address: str
) -> None:
    folder = tmp_path / "photos"
    ids = fill(folder, 20)
    expected = spoil(folder)
    report = await index(FolderSource(folder), "shop", store, address, FAST)
    assert (report.read, report.indexed, report.rejected) == (26, 20, 6)
    assert not report.complete
    assert sorted(await stored(store, "shop")) == ids
    assert report.rejects_path == tmp_path / "photos.shop.rejects.jsonl"
    lines = [json.loads(line) for line in report.rejects_path.read_text().splitlines()]
    assert {line["id"]: line["reason"] for line in lines} == expected
    assert dict(report.reject_reasons) == dict.fromkeys(expected.values(), 1)
    assert all(line["message"] and line["image"] for line in lines)
    sizes = {line["id"]: line["bytes"] for line in lines}
    assert sizes["empty.jpg"] == 0
    assert sizes["text.jpg"] == 15
    assert sizes["huge.jpg"] is None


@pytest.mark.parametrize("chosen", ["", "listed"])
async def test_a_clean_run_removes_the_rejects_of_the_one_before(
    tmp_path: Path, store: VectorStore, address: str, chosen: str
) -> None:
    fill(tmp_path / "photos", 5)
    (tmp_path / "photos" / "empty.jpg").write_bytes(b"")
    (tmp_path / chosen).mkdir(exist_ok=True)
    options = replace(FAST, rejects_path=tmp_path / chosen if chosen else None)
    report = await index(FolderSource(tmp_path / "photos"), "shop", store, address, options)
    assert report.rejects_path == tmp_path / chosen / "photos.shop.rejects.jsonl"
    other = await index(FolderSource(tmp_path / "photos"), "other", store, address, options)
    assert other.rejects_path is not None
    (tmp_path / "photos" / "empty.jpg").unlink()
    assert (await index(FolderSource(tmp_path / "photos"), "shop", store, address, options)).complete
    assert not report.rejects_path.exists()
    assert other.rejects_path.exists()  # of another catalog, whose last run it tells of


async def test_nothing_is_published_when_too_many_are_rejected(
    tmp_path: Path, store: VectorStore, address: str
) -> None:
    folder = tmp_path / "photos"
    fill(folder, 4)
    published = await index(FolderSource(folder), "shop", store, address, FAST)
    fill(folder, 2, start=20)
    for number in range(7):
        (folder / f"bad{number}.jpg").write_text("no image")
    with pytest.raises(TooManyRejects, match=r"7 of 13 items were rejected \(IMAGE_UNREADABLE 7\).*0\.5"):
        await index(FolderSource(folder), "shop", store, address, FAST)
    assert await versions(store, "shop") == [VersionState.PUBLISHED, VersionState.BUILDING]
    async with store.open_version("shop") as reader:
        assert reader.info.version == published.version
    allowed = replace(FAST, max_reject_share=0.6)
    assert (await index(FolderSource(folder), "shop", store, address, allowed)).rejected == 7


async def test_nothing_is_published_when_nothing_could_be_indexed(
    tmp_path: Path, store: VectorStore, address: str
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"")
    options = replace(FAST, max_reject_share=1.0)
    with pytest.raises(TooManyRejects, match="1 item was read, and none is usable"):
        await index(FolderSource(folder), "shop", store, address, options)
    assert await versions(store, "shop") == []


async def test_a_source_without_items_never_replaces_a_catalog(
    tmp_path: Path, store: VectorStore, address: str
) -> None:
    fill(tmp_path / "photos", 3)
    await index(FolderSource(tmp_path / "photos"), "shop", store, address, FAST)
    (tmp_path / "none.csv").write_text("id,image\n")
    (tmp_path / "empty").mkdir()
    wanted = replace(ALWAYS, sync=True, allow_delete=True)
    for source in (ManifestSource(tmp_path / "none.csv"), FolderSource(tmp_path / "empty")):
        with pytest.raises(IndexingError):
            await index(source, "shop", store, address, wanted)
        assert await versions(store, "shop") == [VersionState.PUBLISHED]
        assert len(await stored(store, "shop")) == 3


async def test_duplicate_ids_are_rejected_after_the_first(
    tmp_path: Path, store: VectorStore, address: str
) -> None:
    fill(tmp_path, 3)
    manifest = tmp_path / "m.jsonl"
    rows = [{"id": "x", "image": "0001.jpg", "n": 1}, {"id": "x", "image": "0002.jpg", "n": 2}]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = await index(ManifestSource(manifest), "shop", store, address, FAST)
    assert dict(report.reject_reasons) == {"ID_DUPLICATE": 1}
    items = await stored(store, "shop")
    assert list(items) == ["x"]
    assert items["x"].payload == {"n": 1}


async def test_missing_images_of_a_manifest_are_rejected(
    tmp_path: Path, store: VectorStore, address: str
) -> None:
    fill(tmp_path, 3)
    manifest = tmp_path / "m.csv"
    manifest.write_text("image\n0001.jpg\nnot-there.jpg\n../../etc/passwd\n0002.jpg\n")
    report = await index(ManifestSource(manifest), "shop", store, address, FAST)
    assert dict(report.reject_reasons) == {"IMAGE_MISSING": 1, "IMAGE_OUTSIDE_ROOT": 1}
    assert report.indexed == 2


@pytest.mark.parametrize("name", ["", "Shop", "a/b", "-x", "x" * 64])
async def test_bad_catalog_names_are_refused_before_anything_is_done(
    tmp_path: Path, store: VectorStore, embedder: FakeEmbedder, address: str, name: str
) -> None:
    fill(tmp_path / "photos", 1)
    with pytest.raises(IndexingError, match="catalog name"):
        await index(FolderSource(tmp_path / "photos"), name, store, address, FAST)
    assert embedder.info_calls == 0


async def test_an_embedder_that_is_down_is_named_with_how_to_start_it(
    tmp_path: Path, store: VectorStore
) -> None:
    fill(tmp_path / "photos", 1)
    with pytest.raises(EmbedderFailed, match=r"127\.0\.0\.1:1 .*python -m embedder_service"):
        await index(FolderSource(tmp_path / "photos"), "shop", store, "127.0.0.1:1", FAST)
    assert await versions(store, "shop") == []


async def test_an_embedder_that_goes_away_for_good_ends_the_run_and_publishes_nothing(
    tmp_path: Path, store: VectorStore, embedder: FakeEmbedder
) -> None:
    fill(tmp_path / "photos", 60)
    options = replace(FAST, retry_seconds=0.5)
    gone = asyncio.Event()

    async def leave(calls: int) -> None:
        if calls >= 3:
            gone.set()
            await asyncio.sleep(60)

    embedder.before_answer = leave
    async with serve(embedder) as bound:
        run = asyncio.create_task(index(FolderSource(tmp_path / "photos"), "shop", store, bound, options))
        await gone.wait()
    with pytest.raises(EmbedderFailed, match=r"not available|CANCELLED"):
        await run
    assert await versions(store, "shop") in ([], [VersionState.BUILDING])


async def test_an_embedder_that_comes_back_goes_on(
    tmp_path: Path, store: VectorStore, embedder: FakeEmbedder
) -> None:
    ids = fill(tmp_path / "photos", 60)
    gone = asyncio.Event()

    async def leave(calls: int) -> None:
        if calls >= 3:
            gone.set()
            await asyncio.sleep(60)

    embedder.before_answer = leave
    async with serve(embedder) as bound:
        options = replace(FAST, retry_seconds=30.0)
        run = asyncio.create_task(index(FolderSource(tmp_path / "photos"), "shop", store, bound, options))
        await gone.wait()
    embedder.before_answer = None
    async with serve(embedder, int(bound.rpartition(":")[2])):
        report = await run
    assert report.complete
    assert sorted(await stored(store, "shop")) == ids


@pytest.mark.slow
async def test_refusals_of_an_overloaded_embedder_are_tried_again(
    tmp_path: Path, store: VectorStore, embedder: FakeEmbedder, address: str
) -> None:
    ids = fill(tmp_path / "photos", 30)
    busy = ServiceError(errors_pb2.OVERLOADED, "queue is full", retry_after=0.01)
    embedder.call_faults = [ServiceError(errors_pb2.NOT_READY, "warming up")]
    embedder.call_faults += [busy] * 5
    options = replace(FAST, connect_seconds=5.0)
    report = await index(FolderSource(tmp_path / "photos"), "shop", store, address, options)
    assert report.complete
    assert sorted(await stored(store, "shop")) == ids


async def test_another_model_in_the_middle_ends_the_run(
    tmp_path: Path, store: VectorStore, embedder: FakeEmbedder, address: str
) -> None:
    fill(tmp_path / "photos", 30)

    async def change(calls: int) -> None:
        if calls == 2:
            mismatch = ServiceError(
                errors_pb2.FINGERPRINT_MISMATCH, f"this is model B, asked for {FINGERPRINT}"
            )
            embedder.call_faults.append(mismatch)

    embedder.before_answer = change
    with pytest.raises(EmbedderFailed, match=f"FAILED_PRECONDITION.*model B.*{FINGERPRINT}"):
        await index(FolderSource(tmp_path / "photos"), "shop", store, address, FAST)
    assert await versions(store, "shop") in ([], [VersionState.BUILDING])


async def test_a_cancelled_run_lets_its_version_go_and_the_published_one_serves_on(
    tmp_path: Path, store: VectorStore, embedder: FakeEmbedder, address: str
) -> None:
    ids = fill(tmp_path / "photos", 40)
    await index(FolderSource(tmp_path / "photos"), "shop", store, address, FAST)
    fill(tmp_path / "photos", 40, start=100)
    reached = asyncio.Event()

    async def hang(calls: int) -> None:
        reached.set()
        await asyncio.sleep(60)

    embedder.before_answer = hang
    run = asyncio.create_task(index(FolderSource(tmp_path / "photos"), "shop", store, address, FAST))
    await reached.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert VersionState.PUBLISHED in await versions(store, "shop")
    assert sorted(await stored(store, "shop")) == ids


async def test_limits_of_the_embedder_bound_the_batches(
    tmp_path: Path, store: VectorStore, embedder: FakeEmbedder, address: str
) -> None:
    fill(tmp_path / "photos", 60)
    embedder.limits.max_message_bytes = 4096
    embedder.limits.max_batch_items = 50
    report = await index(FolderSource(tmp_path / "photos"), "shop", store, address, FAST)
    assert report.complete
    assert all(request.ByteSize() <= 4096 for request in embedder.batches)
    assert {request.expected_model_fingerprint for request in embedder.batches} == {FINGERPRINT}
    embedder.batches.clear()
    embedder.limits.max_message_bytes = 1_000_000
    embedder.limits.max_batch_items = 7
    await index(FolderSource(tmp_path / "photos"), "again", store, address, FAST)
    assert [len(request.images) for request in embedder.batches] == [7] * 8 + [4]


async def test_several_calls_are_in_flight_but_no_more_than_allowed(
    tmp_path: Path, store: VectorStore, embedder: FakeEmbedder, address: str
) -> None:
    fill(tmp_path / "photos", 100)
    all_three = asyncio.Event()

    async def wait_for_others(calls: int) -> None:
        if embedder.under_way == 3:
            all_three.set()
        await all_three.wait()

    embedder.before_answer = wait_for_others
    options = replace(FAST, calls_in_flight=3)
    await index(FolderSource(tmp_path / "photos"), "shop", store, address, options)
    assert embedder.most_under_way == 3


@pytest.mark.slow
async def test_searches_of_another_process_never_fail_while_versions_are_published(
    tmp_path: Path, store: VectorStore, address: str
) -> None:
    # A store of its own excludes the indexer's from open versions as another process would be.
    fill(tmp_path / "photos", 10)
    await index(FolderSource(tmp_path / "photos"), "shop", store, address, ALWAYS)
    await store.close()
    searching = open_store(f"edge://{tmp_path / 'store'}")
    done = asyncio.Event()

    async def search() -> set[str]:
        seen = set()
        while not done.is_set():
            async with searching.open_version("shop") as reader:
                assert await reader.count() == 10
                seen.add(reader.info.version)
        return seen

    searches = asyncio.create_task(search())
    for _ in range(5):
        publishing = open_store(f"edge://{tmp_path / 'store'}")
        await index(FolderSource(tmp_path / "photos"), "shop", publishing, address, ALWAYS)
        await publishing.close()
    done.set()
    assert len(await searches) > 1
    await searching.close()


@pytest.mark.parametrize("lost", ["item", "features"])
async def test_a_version_that_lost_something_is_not_published(
    tmp_path: Path, store: VectorStore, address: str, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "photos", 20)
    create = store.create_version

    async def create_forgetful(*arguments: Any) -> Any:
        writer = await create(*arguments)
        upsert = writer.upsert

        async def forgetful(batch: Any) -> None:
            await upsert(batch)
            if lost == "item":
                await writer.delete([batch.ids[0]])
            else:
                rolled = np.roll(batch.features, 1, axis=0)
                await upsert(type(batch)(batch.ids, rolled, batch.payloads, batch.images))

        monkeypatch.setattr(writer, "upsert", forgetful)
        return writer

    monkeypatch.setattr(store, "create_version", create_forgetful)
    with pytest.raises(VersionIncomplete):
        await index(FolderSource(tmp_path / "photos"), "shop", store, address, FAST)
    assert await versions(store, "shop") == []


@pytest.mark.parametrize("fault", [InvalidQueryError("no"), StoreUnavailableError("away")])
async def test_a_store_that_refuses_ends_the_run(
    tmp_path: Path, store: VectorStore, address: str, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "photos", 20)
    create = store.create_version

    async def create_broken(*arguments: Any) -> Any:
        writer = await create(*arguments)

        async def broken(batch: Any) -> None:
            raise fault

        monkeypatch.setattr(writer, "upsert", broken)
        return writer

    monkeypatch.setattr(store, "create_version", create_broken)
    options = replace(FAST, retry_seconds=0.3)
    with pytest.raises(IndexingError, match="did not take a batch"):
        await index(FolderSource(tmp_path / "photos"), "shop", store, address, options)
    assert await versions(store, "shop") == []


async def test_rejects_that_cannot_be_written_are_told_at_the_start(
    tmp_path: Path, store: VectorStore, embedder: FakeEmbedder, address: str
) -> None:
    fill(tmp_path / "photos", 1)
    options = replace(FAST, rejects_path=tmp_path / "no" / "folder.jsonl")
    with pytest.raises(SourceError, match="`rejects_path`"):
        await index(FolderSource(tmp_path / "photos"), "shop", store, address, options)
    assert embedder.info_calls == 0
