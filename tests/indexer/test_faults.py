"""Disks that are full, stores and embedders that are away, images that are broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from indexer import FolderSource, IndexingError, IndexingOptions, ManifestSource, SourceError, index
from indexer.read import read_image
from tests.indexer.fake_embedder import FakeEmbedder
from tests.indexer.helpers import fill
from vector_store import VectorStore
from vector_store.errors import StoreUnavailableError
from vector_store.types import VersionState

FAST = IndexingOptions(connect_seconds=0.3, retry_seconds=0.3, write_items=5, calls_in_flight=1)


def failing_writes(store: VectorStore, monkeypatch: pytest.MonkeyPatch, fails: Callable[[int], bool]) -> None:
    """Let the writes that `fails` picks, by number from 1, end as on a full disk."""
    for name in ("create_version", "resume_version"):
        opened = getattr(store, name)

        async def open_failing(*arguments: Any, opened: Any = opened) -> Any:
            writer = await opened(*arguments)
            upsert, writes = writer.upsert, 0

            async def write(batch: Any) -> None:
                nonlocal writes
                writes += 1
                if fails(writes):
                    raise StoreUnavailableError("no space left on device")
                await upsert(batch)

            monkeypatch.setattr(writer, "upsert", write)
            return writer

        monkeypatch.setattr(store, name, open_failing)


@pytest.mark.service
async def test_a_full_disk_ends_the_run_and_the_next_one_goes_on(
    tmp_path: Path, store: VectorStore, embedder: FakeEmbedder, address: str
) -> None:
    ids = fill(tmp_path / "photos", 40)
    with pytest.MonkeyPatch.context() as patched:
        failing_writes(store, patched, lambda write: write > 4)
        with pytest.raises(IndexingError, match="no space left"):
            await index(FolderSource(tmp_path / "photos"), "shop", store, address, FAST)
    assert [info.state for info in await store.list_versions("shop")] == [VersionState.BUILDING]
    report = await index(FolderSource(tmp_path / "photos"), "shop", store, address, FAST)
    assert report.resumed
    sent = sum(len(request.images) for request in embedder.batches)
    assert sent <= 40 + 2 * embedder.limits.max_batch_items
    async with store.open_version("shop") as reader:
        items, _ = await reader.scroll(limit=100)
    assert sorted(item.id for item in items) == ids


@pytest.mark.service
async def test_a_store_that_is_away_for_a_while_costs_nothing(
    tmp_path: Path, store: VectorStore, embedder: FakeEmbedder, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "photos", 40)
    failing_writes(store, monkeypatch, lambda write: write in (2, 3))
    options = replace(FAST, retry_seconds=10.0)
    report = await index(FolderSource(tmp_path / "photos"), "shop", store, address, options)
    assert report.indexed == sum(len(request.images) for request in embedder.batches) == 40


@pytest.mark.service
async def test_a_full_disk_under_the_ledger_ends_the_run(
    tmp_path: Path, store: VectorStore, address: str
) -> None:
    fill(tmp_path / "photos", 4)
    full = replace(FAST, ledger_path=Path("/dev/full/ledger.sqlite"))
    with pytest.raises(IndexingError, match="`ledger_path`"):
        await index(FolderSource(tmp_path / "photos"), "shop", store, address, full)


@pytest.mark.service
async def test_half_of_the_images_unreadable(tmp_path: Path, store: VectorStore, address: str) -> None:
    ids = fill(tmp_path / "photos", 40)
    for item_id in ids[::2]:
        (tmp_path / "photos" / item_id).write_bytes(b"no image")
    report = await index(FolderSource(tmp_path / "photos"), "shop", store, address, FAST)
    assert (report.read, report.indexed, report.rejected, report.complete) == (40, 20, 20, False)
    async with store.open_version("shop") as reader:
        items, _ = await reader.scroll(limit=100)
    assert sorted(item.id for item in items) == ids[1::2]


@pytest.mark.service
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"image,\xe9\n0001.jpg,1\n", "not UTF-8"),
        ("image,a\n0001.jpg,1\n".encode("utf-16"), "not UTF-8|zero byte"),
        (b"image,\x00\n0001.jpg,1\n", "zero byte"),
        (b"image," + b",".join(b"c%d" % n for n in range(5000)) + b"\n0001.jpg" + b",1" * 5000, "columns"),
        (b'image,a\n0001.jpg,"' + b"x" * (10 << 20) + b"\n", "longer than 1 MiB"),
        (b"image,image\n0001.jpg,1\n", "twice"),
        (b"", "empty"),
    ],
)
async def test_hostile_manifests_stop_the_run_before_it_changes_anything(
    tmp_path: Path, store: VectorStore, embedder: FakeEmbedder, address: str, content: bytes, told: str
) -> None:
    fill(tmp_path, 2)
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(SourceError, match=told):
        await index(ManifestSource(tmp_path / "m.csv"), "shop", store, address, FAST)
    assert embedder.info_calls == 0
    assert await store.list_catalogs() == []


@pytest.mark.service
async def test_hostile_rows_are_rejects(tmp_path: Path, store: VectorStore, address: str) -> None:
    fill(tmp_path, 3)
    (tmp_path / "out.jpg").symlink_to("/etc/passwd")
    rows = [
        '{"id": "good", "image": "0001.jpg"}',
        '{"id": "up", "image": "../x.jpg"}',
        '{"id": "root", "image": "/etc/passwd"}',
        '{"id": "link", "image": "out.jpg"}',
        '{"id": "zero", "image": "a\\u0000b.jpg"}',
        '{"id": "number", "image": 7}',
        '{"id": "web", "image": "http://127.0.0.1/x.jpg"}',
        '{"id": "large", "image": "0002.jpg", "note": "' + "x" * (10 << 20) + '"}',
        '{"id": "cut',
        '{"id": "half", "image": "0001.jpg", "note": "\\ud800"}',
    ]
    (tmp_path / "m.jsonl").write_text("\ufeff" + "\n".join(rows) + "\n", encoding="utf-8")
    options = replace(FAST, max_reject_share=1.0)
    report = await index(ManifestSource(tmp_path / "m.jsonl"), "shop", store, address, options)
    assert (report.read, report.indexed) == (10, 1)
    assert dict(report.reject_reasons) == {
        "IMAGE_OUTSIDE_ROOT": 4,
        "ROW_MALFORMED": 3,
        "URL_NOT_ALLOWED": 1,
        "PAYLOAD_INVALID": 1,
    }


def test_nothing_is_read_of_an_image_that_is_too_large(tmp_path: Path) -> None:
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.truncate(1 << 40)
    (item,) = FolderSource(tmp_path).items()
    result = read_image(item, 1000)  # type: ignore[arg-type]
    assert getattr(result, "bytes", 0) is None
