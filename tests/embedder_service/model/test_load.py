"""The fingerprint: everything that changes it, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from embedder_service.images.preprocess import PaddingMode, Preprocessor
from embedder_service.model.load import model_fingerprint
from embedder_service.model.weights import LoadedModel
from tests.embedder_service.small_model import load_small, save

pytestmark = pytest.mark.torch

PREPROCESSOR = Preprocessor(size=32)


def fingerprint(loaded: LoadedModel, preprocessor: Preprocessor = PREPROCESSOR) -> str:
    return model_fingerprint(loaded.config, loaded.module.state_dict(), preprocessor, loaded.mean, loaded.std)


def test_it_is_short_and_the_same_each_time(tmp_path: Path) -> None:
    first, second = (fingerprint(load_small(tmp_path)) for _ in range(2))
    assert first == second
    assert first.startswith("clip-")
    assert len(first) == 37


def test_everything_that_features_depend_on_changes_it(tmp_path: Path) -> None:
    loaded = load_small(tmp_path)
    almost = load_small(tmp_path)
    with torch.no_grad():
        almost.module.state_dict()["ln_final.bias"][0] += 1e-6
    others = [
        fingerprint(loaded),
        fingerprint(load_small(tmp_path, "random:8")),
        fingerprint(almost),
        fingerprint(load_small(tmp_path, quick_gelu=True)),
        fingerprint(loaded, replace(PREPROCESSOR, mode=PaddingMode.SQUAREPAD)),
        fingerprint(loaded, replace(PREPROCESSOR, mode=PaddingMode.CLIP)),
        fingerprint(loaded, replace(PREPROCESSOR, target_ratio=1.5)),
        fingerprint(loaded, replace(PREPROCESSOR, size=64)),
        fingerprint(replace(loaded, mean=(0.5, 0.5, 0.5))),
        fingerprint(replace(loaded, std=(0.5, 0.5, 0.5))),
    ]
    assert len(set(others)) == len(others)


def test_what_features_do_not_depend_on_does_not(tmp_path: Path) -> None:
    loaded = load_small(tmp_path)
    same = fingerprint(loaded)
    assert fingerprint(replace(loaded, architecture="other", pretrained="name")) == same
    assert fingerprint(loaded, replace(PREPROCESSOR, max_pixels=5)) == same
    squarepad = replace(PREPROCESSOR, mode=PaddingMode.SQUAREPAD)
    assert fingerprint(loaded, squarepad) == fingerprint(loaded, replace(squarepad, target_ratio=3.0))
    assert fingerprint(load_small(tmp_path, quick_gelu=False)) == same
    path = save(loaded.module.state_dict(), tmp_path / "copy.safetensors")
    assert fingerprint(load_small(tmp_path, str(path))) == same


def test_the_dtype_of_the_checkpoint_does_not_matter(tmp_path: Path) -> None:
    half = {name: tensor.bfloat16() for name, tensor in load_small(tmp_path).module.state_dict().items()}
    full = {name: tensor.float() for name, tensor in half.items()}
    paths = [save(half, tmp_path / "half.safetensors"), save(full, tmp_path / "full.safetensors")]
    assert len({fingerprint(load_small(tmp_path, str(path))) for path in paths}) == 1
