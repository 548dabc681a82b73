"""Runs that are killed at random points end in the catalog of an uninterrupted one."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from indexer import FolderSource, IndexingOptions, index
from tests.indexer.fake_embedder import FakeEmbedder, features_of, serve
from tests.indexer.helpers import fill
from tests.vector_store.engines import REAL_ENGINES, engine_url
from vector_store import VectorStore, open_store
from vector_store.types import VersionState

pytestmark = [pytest.mark.service, pytest.mark.slow]

# A long run sets more; each point costs the start of a process.
KILLS = int(os.environ.get("CIR_KILLS", "3"))
IMAGES = 60
SCRIPT = Path(__file__).with_name("killed_run.py")
HOLDER = Path(__file__).with_name("held_reader.py")


@pytest.fixture
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """URL of an empty store on an engine."""
    async with engine_url(request.param, tmp_path / "store") as empty:
        yield empty


async def until(embedder: FakeEmbedder, *, batches: int) -> None:
    while len(embedder.batches) < batches:  # noqa: ASYNC110  # the server knows no events
        await asyncio.sleep(0.005)


async def start(tmp_path: Path, url: str, address: str, calls: int) -> asyncio.subprocess.Process:
    """A run of the indexer into the store at a URL, in a process of its own."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, str(SCRIPT), str(tmp_path / "photos"), url),
        *(str(tmp_path / "ledger.sqlite"), address, str(calls), "60"),
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )


async def check(store: VectorStore, folder: Path, ids: list[str]) -> None:
    """The published catalog is that of a run that nothing disturbed."""
    async with store.open_version("shop") as reader:
        items, _ = await reader.scroll(limit=1000, with_features=True)
    assert sorted(item.id for item in items) == ids
    for item in items:
        path = folder / item.id
        assert (item.image, item.payload["filename"]) == (str(path), path.name)
        assert item.features is not None
        np.testing.assert_allclose(item.features, features_of(path.read_bytes()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("url", REAL_ENGINES, indirect=True)
@pytest.mark.parametrize("calls", [1, 4])
async def test_killed_runs_lose_nothing_and_encode_at_most_what_was_in_flight_again(
    tmp_path: Path, url: str, embedder: FakeEmbedder, address: str, calls: int
) -> None:
    ids, ledger = fill(tmp_path / "photos", IMAGES), tmp_path / "ledger.sqlite"
    chance = random.Random(7)

    async def slowly(_: int) -> None:
        await asyncio.sleep(0.05)

    embedder.before_answer = slowly
    kills = 0
    for _ in range(KILLS):
        begun = len(embedder.batches)
        child = await start(tmp_path, url, address, calls)
        # Up to a random batch, and then to a random moment before the next ones.
        wanted = begun + chance.randint(1, 3)
        reached = asyncio.ensure_future(until(embedder, batches=wanted))
        await asyncio.wait({reached, asyncio.ensure_future(child.wait())}, return_when="FIRST_COMPLETED")
        reached.cancel()
        await asyncio.sleep(chance.uniform(0, 0.12))
        if child.returncode is None:
            child.kill()
            kills += 1
        await child.wait()
    embedder.before_answer = None
    options = IndexingOptions(ledger_path=ledger, calls_in_flight=calls, keep_features=True)
    async with open_store(url) as store:
        await index(FolderSource(tmp_path / "photos"), "shop", store, address, options)
        infos = await store.list_versions("shop")
        assert [info.state for info in infos] == [VersionState.PUBLISHED]
        await check(store, tmp_path / "photos", ids)
    encoded = Counter(image.content for request in embedder.batches for image in request.images)
    assert len(encoded) == IMAGES
    assert encoded.total() <= IMAGES + kills * calls * embedder.limits.max_batch_items
    assert kills or KILLS == 0


async def test_killed_embedders_and_readers_of_the_published_version_disturb_nobody(
    tmp_path: Path, embedder: FakeEmbedder
) -> None:
    photos, url = tmp_path / "photos", f"edge://{tmp_path / 'store'}"
    fill(photos, IMAGES // 3)
    options = IndexingOptions(ledger_path=tmp_path / "ledger.sqlite", keep_features=True)
    async with serve(embedder) as address:
        async with open_store(url) as store:
            await index(FolderSource(photos), "shop", store, address, options)
        ids = sorted({*fill(photos, IMAGES), *fill(photos, IMAGES // 3)})
    embedder.batches.clear()

    async def slowly(_: int) -> None:
        await asyncio.sleep(0.05)

    embedder.before_answer = slowly
    holding = await asyncio.create_subprocess_exec(
        *(sys.executable, str(HOLDER), url),
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stdout=asyncio.subprocess.PIPE,
    )
    assert holding.stdout is not None
    assert await holding.stdout.readline() == b"open\n"
    port, lives = int(address.rpartition(":")[2]), 0
    run = asyncio.ensure_future((await start(tmp_path, url, address, 4)).wait())
    while not run.done():
        async with serve(embedder, port):
            lives += 1
            seen = len(embedder.batches)
            reached = asyncio.ensure_future(until(embedder, batches=seen + 3))
            await asyncio.wait({reached, run}, return_when="FIRST_COMPLETED")
            reached.cancel()
        if holding.returncode is None and lives == 2:
            holding.kill()
            await holding.wait()
    assert (await run, lives > 2, holding.returncode) == (0, True, -9)
    async with open_store(url) as store:
        await check(store, photos, ids)
    encoded = Counter(image.content for request in embedder.batches for image in request.images)
    # Taken over from the published version, though it was held by another process.
    assert len(encoded) == IMAGES - IMAGES // 3
    assert encoded.total() <= len(encoded) + lives * 4 * embedder.limits.max_batch_items
