"""Uploads: a version of many items that is published, resumed where it was, and never made of too few."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import cir
from tests.cir.test_import_items import items
from tests.search_service.either_engine import Service, running_service
from tests.search_service.neighbours import UNREADABLE

pytestmark = pytest.mark.service


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running_service("local", tmp_path / "store") as running:
        yield running


async def test_an_upload_makes_catalog_and_version_and_publishes_it(service: Service) -> None:
    def upload(client: cir.Client) -> None:
        seen: list[int] = []
        first = client.upload(
            "new", items(30), schema={"price": "integer"}, batch_size=7, parallel=3,
            on_progress=lambda progress: seen.append(progress.done),
        )  # fmt: skip
        assert seen == sorted(seen)
        assert seen[-1] == 30
        assert (first.done, first.written, first.rejected, first.published) == (30, 30, 0, True)
        assert (
            client.search("new", item="item-001", where={"price": {"lt": 5}}).explanation.version
            == first.version
        )
        # The next one has the schema of the published one, and takes its place.
        kept = client.upload("new", items(12), publish=False)
        second = client.upload("new", items(12))
        assert (kept.published, second.published) == (False, True)
        published = client.catalog("new").published
        assert published is not None
        assert (published.name, published.item_count) == (second.version, 12)
        assert published.schema == {"price": "integer"}

    with cir.Client(service.address) as client:
        await asyncio.to_thread(upload, client)


async def test_a_program_that_is_started_again_goes_on(service: Service, tmp_path: Path) -> None:
    resume = tmp_path / "upload.json"

    def broken() -> Iterator[cir.ItemWrite]:
        yield from items(20)
        raise RuntimeError("out of items")

    async with cir.AsyncClient(service.address) as client:
        with pytest.raises(RuntimeError, match="out of items"):
            await client.upload("new", broken(), resume=resume, batch_size=4)
        version, embedded = json.loads(resume.read_text())["version"], service.embedder.images
        with pytest.raises(cir.InvalidArgument, match="is of an upload into catalog 'new'"):
            await client.upload("other", items(1), resume=resume)
        done = await client.upload("new", items(40), resume=resume, batch_size=4)
        assert (done.version, done.done, done.written, done.published) == (version, 40, 40, True)
        assert service.embedder.images < embedded + 40
        assert not resume.exists()
        assert [found.name for found in await client.versions("new") if found.state == "building"] == []


async def test_an_upload_goes_on_behind_each_of_its_steps(service: Service, tmp_path: Path) -> None:
    """Killed after the version was finished, published, or dropped by somebody."""
    resume = tmp_path / "upload.json"
    async with cir.AsyncClient(service.address) as client:
        ready = await client.upload("new", items(5), publish=False)
        for state in ("ready", "published"):
            resume.write_text(
                json.dumps({"catalog": "new", "version": ready.version, "token": "t", "done": 5})
            )
            done = await client.upload("new", items(5), resume=resume)
            assert (done.version, done.published, done.done) == (ready.version, True, 5), state
            assert not resume.exists()
        resume.write_text(json.dumps({"catalog": "new", "version": "v9999", "token": "t"}))
        anew = await client.upload("new", items(5), resume=resume)
        assert anew.version not in (ready.version, "v9999")
        for damaged in ("", "[]", '{"catalog": 3, "x": 1}'):
            resume.write_text(damaged)
            with pytest.raises(cir.InvalidArgument, match="no file of an upload"):
                await client.upload("new", items(5), resume=resume)


async def test_too_few_items_are_not_published(service: Service, tmp_path: Path) -> None:
    resume = tmp_path / "upload.json"
    wanted = items(4)
    wanted[1] = cir.ItemWrite("item-001", content=UNREADABLE)
    wanted[3] = cir.ItemWrite("item-003", content=tmp_path / "missing.jpg")
    async with cir.AsyncClient(service.address) as client:
        before = await client.upload("new", items(3))
        with pytest.raises(
            cir.FailedPrecondition, match=r"2 of 4 were rejected.*max_reject_share is 0\.25.*; the first"
        ):
            await client.upload("new", wanted, max_reject_share=0.25, resume=resume)
        with pytest.raises(cir.FailedPrecondition, match="no item was written"):
            await client.upload("new", [], max_reject_share=1)
        published = (await client.catalog("new")).published
        assert published is not None
        assert published.name == before.version
        # Nothing is written again by somebody who takes it as it is.
        embedded = service.embedder.images
        done = await client.upload("new", wanted, max_reject_share=0.5, resume=resume)
        assert (done.written, done.rejected, [error.item_id for error in done.errors]) == (
            2,
            2,
            ["item-001", "item-003"],
        )
        assert service.embedder.images == embedded


async def test_images_are_read_in_parallel_and_keep_their_order(service: Service) -> None:
    together = threading.Barrier(3, timeout=20)

    class Photo:
        """A file that is read when two others are."""

        def __init__(self, content: bytes) -> None:
            self.content = content

        def read(self, _size: int) -> bytes:
            together.wait()
            return self.content

    photos: list[Any] = [Photo(b"picture %d" % n) for n in range(9)]
    async with cir.AsyncClient(service.address) as client:
        wanted = [cir.ItemWrite(f"item-{n}", photo) for n, photo in enumerate(photos)]
        done = await client.upload("new", wanted, parallel=3, batch_size=2)
        assert (done.written, done.errors) == (9, ())
        found = await client.search("new", image=b"picture 4", page_size=1)
        assert found.results[0].id == "item-4"
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("cir-upload") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"parallel": 0}, "parallel is 0"),
        ({"max_reject_share": 2}, "0 to 1"),
    ],
)
async def test_numbers_that_are_none_are_refused(
    service: Service, options: dict[str, Any], word: str
) -> None:
    async with cir.AsyncClient(service.address) as client:
        with pytest.raises(cir.InvalidArgument, match=word):
            await client.upload("new", items(1), **options)
