"""Real disks that are full or read-only: a small file system of its own under each folder of a run."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from indexer import FolderSource, IndexingError, IndexingOptions, Partition, embed_part, index
from tests.indexer.fake_embedder import FakeEmbedder
from tests.indexer.helpers import fill
from vector_store import open_store
from vector_store.errors import StoreError

pytestmark = pytest.mark.service

IMAGES = 60
SCRIPT = Path(__file__).with_name("killed_run.py")


def mount(*arguments: str) -> bool:
    command = shutil.which(arguments[0])
    return (
        command is not None and not subprocess.run([command, *arguments[1:]], capture_output=True).returncode
    )


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory, larger than what a store wants to leave free."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount("mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(folder)):
        pytest.skip("file systems cannot be mounted here")
    yield folder
    mount("umount", "-l", str(folder))


def fill_up(folder: Path) -> Path:
    """Take every free byte."""
    path = folder / "ballast"
    with suppress(OSError), path.open("wb", buffering=0) as file:
        for block in (b"\1" * (1 << 20), b"\1" * 4096, b"\1"):
            with suppress(OSError):
                while file.write(block) == len(block):
                    pass
    return path


def fill_up_at(embedder: FakeEmbedder, folder: Path, *, call: int) -> None:
    async def now(number: int) -> None:
        if number == call:
            await asyncio.to_thread(fill_up, folder)

    embedder.before_answer = now


async def test_a_full_disk_under_the_ledger(
    disk: Path, tmp_path: Path, embedder: FakeEmbedder, address: str
) -> None:
    ids = fill(tmp_path / "photos", IMAGES)
    options = IndexingOptions(ledger_path=disk / "ledger.sqlite", calls_in_flight=1, keep_features=True)
    async with open_store(f"edge://{tmp_path / 'store'}") as store:
        fill_up_at(embedder, disk, call=3)
        with pytest.raises(IndexingError, match=r"full.*free some space.*the next run goes on"):
            await index(FolderSource(tmp_path / "photos"), "shop", store, address, options)
        (disk / "ballast").unlink()
        report = await index(FolderSource(tmp_path / "photos"), "shop", store, address, options)
        assert report.published
        async with store.open_version("shop") as reader:
            items, _ = await reader.scroll(limit=100)
    assert sorted(item.id for item in items) == ids


async def test_a_full_disk_under_the_parts(
    disk: Path, tmp_path: Path, embedder: FakeEmbedder, address: str
) -> None:
    fill(tmp_path / "photos", IMAGES)
    source, options = FolderSource(tmp_path / "photos"), IndexingOptions(calls_in_flight=1)
    fill_up_at(embedder, disk, call=3)
    with pytest.raises(IndexingError, match="free some space"):
        await embed_part(source, "shop", address, Partition(1, 1), disk / "parts", options)
    (disk / "ballast").unlink()
    report = await embed_part(source, "shop", address, Partition(1, 1), disk / "parts", options)
    assert (report.read, report.rejected) == (IMAGES, 0)


@pytest.mark.slow
async def test_a_full_disk_under_an_embedded_store(
    disk: Path, tmp_path: Path, embedder: FakeEmbedder, address: str
) -> None:
    """In a process of its own: an engine that writes to mapped memory may die of it."""
    ids = fill(tmp_path / "photos", IMAGES)
    fill_up_at(embedder, disk, call=3)

    async def run() -> int | None:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, str(SCRIPT), str(tmp_path / "photos"), f"edge://{disk / 'store'}"),
            *(str(tmp_path / "ledger.sqlite"), address, "1", "1"),
            env={**os.environ, "PYTHONPATH": os.getcwd()},
            stderr=asyncio.subprocess.DEVNULL,
        )
        return await child.wait()

    assert await run() != 0
    (disk / "ballast").unlink()
    assert await run() == 0
    async with open_store(f"edge://{disk / 'store'}") as store, store.open_version("shop") as reader:
        items, _ = await reader.scroll(limit=100)
    assert sorted(item.id for item in items) == ids


@pytest.mark.parametrize("what", ["ledger", "parts", "rejects", "store"])
async def test_read_only_folders_are_told_before_anything_is_embedded(
    disk: Path, tmp_path: Path, embedder: FakeEmbedder, address: str, what: str
) -> None:
    fill(tmp_path / "photos", 3)
    if not mount("mount", "-o", "remount,ro", str(disk)):
        pytest.skip("file systems cannot be mounted read-only here")
    source = FolderSource(tmp_path / "photos")
    options = IndexingOptions(
        ledger_path=(disk if what == "ledger" else tmp_path) / "ledger.sqlite",
        rejects_path=(disk if what == "rejects" else tmp_path) / "rejects.jsonl",
    )

    async def run() -> None:
        if what == "parts":
            await embed_part(source, "shop", address, Partition(1, 1), disk / "parts", options)
            return
        place = disk if what == "store" else tmp_path
        async with open_store(f"edge://{place / 'store'}") as store:
            await index(source, "shop", store, address, options)

    with pytest.raises((IndexingError, StoreError), match=r"(?i)read-only|cannot be (written|made|opened)"):
        await run()
    assert embedder.batches == []
