"""Features against open_clip called directly."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from torchvision import transforms

from embedder_service.model.clip import ClipModel, image_size
from embedder_service.model.device import CpuThreadShare
from embedder_service.model.weights import LoadedModel, load_model
from embedder_service.probe import probe_images, smallest_cosine
from service_runtime.errors import StartupError
from tests.embedder_service.small_config import CONFIG
from tests.embedder_service.small_model import load_small

pytestmark = pytest.mark.torch

CPU = torch.device("cpu")
TEXTS = [
    "",
    "a red dress",
    "word " * 300,
    "Ärmellos & gestreift, 日本語 🧥",
    "has a longer skirt and no belt",
]


def expected_images(loaded: LoadedModel, pixels: Any) -> Any:
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(loaded.mean, loaded.std)])
    module: Any = loaded.module
    with torch.no_grad():
        return module.encode_image(torch.stack([transform(image) for image in pixels])).numpy()


def expected_texts(loaded: LoadedModel) -> Any:
    module: Any = loaded.module
    with torch.no_grad():
        return module.encode_text(open_clip.tokenize(TEXTS)).numpy()


@pytest.fixture(scope="module", params=["small", "custom text", "RN50", "ViT-B-32"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("model")
    if request.param == "small":
        return load_small(folder)
    if request.param == "custom text":
        return load_small(folder, custom_text=True)
    return load_model(request.param, "random:1")


@pytest.mark.slow
def test_features_are_those_of_open_clip(loaded: LoadedModel) -> None:
    model = ClipModel(loaded, CPU, torch.float32)
    pixels = probe_images(image_size(loaded))
    images, texts = model.encode_images(pixels), model.encode_texts(TEXTS)
    for ours, theirs in ((images, expected_images(loaded, pixels)), (texts, expected_texts(loaded))):
        assert ours.dtype == np.float32
        assert ours.shape == (len(ours), model.dimension)
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
        assert smallest_cosine(ours, theirs) >= 1 - 1e-6


@pytest.mark.slow
def test_a_batch_of_one_gives_what_a_batch_gives(loaded: LoadedModel) -> None:
    model = ClipModel(loaded, CPU, torch.float32)
    pixels = probe_images(image_size(loaded))[:3]
    one_by_one = np.concatenate([model.encode_images(pixels[i : i + 1]) for i in range(3)])
    assert smallest_cosine(one_by_one, model.encode_images(pixels)) >= 1 - 1e-6
    texts = np.concatenate([model.encode_texts([text]) for text in TEXTS])
    assert smallest_cosine(texts, model.encode_texts(TEXTS)) >= 1 - 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_passes_side_by_side_give_what_one_alone_gives(tmp_path: Path, dtype: torch.dtype) -> None:
    model = ClipModel(load_small(tmp_path), CPU, dtype)
    pixels = probe_images(model.image_size)
    alone = model.encode_images(pixels), model.encode_texts(TEXTS)
    cores = CpuThreadShare(threads=2, lanes=2)

    def both(passes: int) -> tuple[Any, Any]:
        cores(passes)
        return model.encode_images(pixels), model.encode_texts(TEXTS)

    with ThreadPoolExecutor(4) as pool:
        for images, texts in pool.map(both, [1, 2] * 10):
            assert smallest_cosine(images, alone[0]) >= 1 - 1e-6
            assert smallest_cosine(texts, alone[1]) >= 1 - 1e-6


def test_rows_that_cannot_be_written_to_are_taken(tmp_path: Path) -> None:
    model = ClipModel(load_small(tmp_path), CPU, torch.float32)
    pixels = np.frombuffer(bytes(2 * 32 * 32 * 3), np.uint8).reshape(2, 32, 32, 3)
    assert model.encode_images(pixels).shape == (2, 32)


def test_inputs_that_are_not_square_are_refused(tmp_path: Path) -> None:
    vision = CONFIG["vision_cfg"] | {"image_size": [32, 64]}
    with pytest.raises(StartupError, match="only squares are served"):
        image_size(load_small(tmp_path, vision_cfg=vision))
