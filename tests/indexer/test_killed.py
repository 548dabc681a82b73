"""Runs that are killed at random points end in the catalog of an uninterrupted one."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from indexer import FolderSource, IndexingOptions, index
from tests.indexer.fake_embedder import FakeEmbedder, features_of
from tests.indexer.pictures import fill
from vector_store import open_store
from vector_store.catalogs import VersionState

# A long run sets more; each point costs the start of a process.
KILLS = int(os.environ.get("CIR_KILLS", "3"))
PICTURES = 60
SCRIPT = Path(__file__).with_name("killed_run.py")


async def until(embedder: FakeEmbedder, *, batches: int) -> None:
    while len(embedder.batches) < batches:  # noqa: ASYNC110  # the server knows no events
        await asyncio.sleep(0.005)


async def test_killed_runs_lose_nothing_and_encode_at_most_a_batch_again(
    tmp_path: Path, embedder: FakeEmbedder, address: str
) -> None:
    ids = fill(tmp_path / "photos", PICTURES)
    url, ledger = f"edge://{tmp_path / 'store'}", tmp_path / "ledger.sqlite"
    chance = random.Random(7)

    async def slowly(_: int) -> None:
        await asyncio.sleep(0.05)

    embedder.before_answer = slowly
    kills = 0
    for _ in range(KILLS):
        begun = len(embedder.batches)
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, str(SCRIPT), str(tmp_path / "photos"), url, str(ledger), address),
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
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
    options = IndexingOptions(ledger_path=ledger, calls_in_flight=1, keep_features=True)
    async with open_store(url) as store:
        await index(FolderSource(tmp_path / "photos"), "shop", store, address, options)
        infos = await store.list_versions("shop")
        assert [info.state for info in infos] == [VersionState.PUBLISHED]
        async with store.reader("shop") as reader:
            items, _ = await reader.scroll(limit=1000, with_features=True)
    assert sorted(item.id for item in items) == ids
    for item in items:
        path = tmp_path / "photos" / item.id
        assert (item.image, item.payload["filename"]) == (str(path), path.name)
        assert item.features is not None
        np.testing.assert_allclose(item.features, features_of(path.read_bytes()), rtol=1e-4, atol=1e-4)
    encoded = Counter(image.content for request in embedder.batches for image in request.images)
    assert len(encoded) == PICTURES
    assert encoded.total() <= PICTURES + kills * embedder.limits.max_batch_items
    assert kills or KILLS == 0
