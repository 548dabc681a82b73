"""Partitions on a Ray of two workers end in the catalog of an undivided run, also when a worker dies."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir.common.v1 import errors_pb2
from indexer import FolderSource, IndexingError
from indexer.ray_engine import index_on_ray
from service_runtime.errors import ServiceError
from tests.indexer.fake_embedder import FakeEmbedder, features_of
from tests.indexer.helpers import fill
from vector_store import VectorStore, open_store

pytestmark = [pytest.mark.service, pytest.mark.ray]

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed; it comes with the extra [ray]"
)
SCRIPT = Path(__file__).with_name("ray_run.py")
IMAGES = 80


async def run_twice(tmp_path: Path, address: str) -> list[dict[str, Any]]:
    """The summaries of two runs in a process of its own."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SCRIPT), str(tmp_path / "photos"), f"edge://{tmp_path / 'store'}"),
        *(str(tmp_path / "parts"), address),
        env={**os.environ, "PYTHONPATH": os.getcwd(), "RAY_USAGE_STATS_ENABLED": "0"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await child.communicate()
    if "NO RAY: " in err.decode():
        pytest.skip(
            f"Ray does not start on this machine now: {err.decode().partition('NO RAY: ')[2].strip()}"
        )
    assert child.returncode == 0, err.decode()
    summaries: list[dict[str, Any]] = json.loads(out.decode().splitlines()[-1])
    return summaries


async def check(tmp_path: Path, ids: list[str]) -> None:
    async with open_store(f"edge://{tmp_path / 'store'}") as store, store.open_version("shop") as reader:
        items, _ = await reader.scroll(limit=1000, with_features=True)
    assert sorted(item.id for item in items) == ids
    for item in items:
        path = tmp_path / "photos" / item.id
        assert (item.image, item.payload["filename"]) == (str(path), path.name)
        assert item.features is not None
        np.testing.assert_allclose(item.features, features_of(path.read_bytes()), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@needs_ray
async def test_a_killed_worker_and_a_failed_partition_lose_nothing(
    tmp_path: Path, embedder: FakeEmbedder, address: str
) -> None:
    ids = fill(tmp_path / "photos", IMAGES)
    # The first partition to ask for the model is refused.
    embedder.call_faults = [ServiceError(errors_pb2.FINGERPRINT_MISMATCH, "not this model today")]
    failed, made_good = await run_twice(tmp_path, address)
    assert (tmp_path / "killed").exists()
    # The killed worker's partition was run again and is not among the failed.
    assert "1 of 3 partitions failed, nothing was published" in failed["error"]
    assert "not this model today" in failed["error"]
    assert (made_good["read"], made_good["indexed"], made_good["published"]) == (IMAGES, IMAGES, True)
    await check(tmp_path, ids)
    encoded = Counter(image.content for request in embedder.batches for image in request.images)
    assert len(encoded) == IMAGES
    # What was in flight when the worker was killed: four calls.
    assert encoded.total() <= IMAGES + 4 * embedder.limits.max_batch_items


async def test_without_ray_it_says_what_to_install(
    tmp_path: Path, store: VectorStore, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "photos", 2)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(IndexingError, match=r"composed-image-retrieval\[ray\]"):
        await index_on_ray(
            FolderSource(tmp_path / "photos"), "shop", store, address, tmp_path / "parts", partitions=2
        )
