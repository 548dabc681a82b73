"""A folder through the real embedder, with a small untrained model, into the embedded store."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("open_clip")

from embedder_service.application import EmbedderApplication
from indexer import FolderSource, IndexingOptions, index
from service_runtime.server import serving
from tests.embedder_service.conftest import small_settings
from vector_store import VectorStore

pytestmark = [pytest.mark.service, pytest.mark.torch]


async def test_images_good_and_bad(tmp_path: Path, store: VectorStore) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for number in range(40):
        pixels = noise.integers(0, 256, (12, 9, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((90, 120))
        image.save(folder / f"{number:02d}.{('jpg', 'png', 'webp')[number % 3]}")
    whole = io.BytesIO()
    Image.fromarray(noise.integers(0, 256, (60, 60, 3), dtype=np.uint8)).save(whole, "JPEG")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("no image")
    (folder / "truncated.jpg").write_bytes(whole.getvalue()[:900])
    (folder / "noise.png").write_bytes(os.urandom(500))
    Image.new("RGB", (1, 1)).save(folder / "tiny.png")
    settings = small_settings(tmp_path)
    async with serving(EmbedderApplication(settings), settings) as address:
        report = await index(FolderSource(folder), "shop", store, address, IndexingOptions(batch_items=8))
    assert report.read == 45
    assert dict(report.reject_reasons) == {
        "IMAGE_EMPTY": 1,
        "IMAGE_UNREADABLE": 2,
        "IMAGE_TRUNCATED": 1,
    }
    assert report.indexed == 41
    async with store.open_version("shop") as reader:
        items, _ = await reader.scroll(limit=100, with_features=True)
        for item in items:
            assert item.features is not None
            best = await reader.query(item.features, limit=1)
            assert best[0].item.id == item.id or best[0].score > 0.9999
