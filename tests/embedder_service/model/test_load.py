"""The fingerprint: everything that changes it, and nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from embedder_service.images.preprocess import Interpolation, PaddingMode, Preprocessor, ResizeMode
from embedder_service.model.load import load, model_fingerprint
from embedder_service.model.weights import LoadedModel
from embedder_service.settings import EmbedderSettings
from tests.embedder_service.small_config import CONFIG
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
        fingerprint(replace(loaded, traits=replace(loaded.traits, mean=(0.5, 0.5, 0.5)))),
        fingerprint(replace(loaded, traits=replace(loaded.traits, std=(0.5, 0.5, 0.5)))),
        fingerprint(loaded, replace(PREPROCESSOR, interpolation=Interpolation.BILINEAR)),
        fingerprint(loaded, replace(PREPROCESSOR, resize_mode=ResizeMode.SQUASH)),
        fingerprint(loaded, replace(PREPROCESSOR, resize_mode=ResizeMode.LONGEST)),
        fingerprint(loaded, replace(PREPROCESSOR, resize_mode=ResizeMode.LONGEST, fill=7)),
    ]
    assert len(set(others)) == len(others)


@pytest.mark.parametrize(
    ("changes", "identity"),
    [
        ({}, "clip-f8fb93110e2f64a54a654c759877dcfc"),
        ({"preprocessing": "targetpad"}, "clip-f8fb93110e2f64a54a654c759877dcfc"),
        ({"preprocessing": "squarepad"}, "clip-b90e83a4ecef6e5e057ded9a0c2f9eb0"),
        ({"preprocessing": "clip"}, "clip-92f520d2041084a8f4dee3130860dbc2"),
        ({"target_ratio": 1.5}, "clip-ea0d5f798880364921ba2e431d23aba8"),
    ],
)
def test_catalogs_of_the_shipped_model_stay_good(changes: dict[str, Any], identity: str) -> None:
    """Catalogs and checkpoints in the world name these models."""
    settings = EmbedderSettings(architecture="cir-small", device="cpu", dtype="float32", **changes)
    assert load(settings).info.fingerprint == identity


def test_a_model_with_the_pixels_of_clip_has_the_identity_that_it_always_had(tmp_path: Path) -> None:
    """Resize mode, interpolation and tokenizer are written for models alone that differ from CLIP in them."""
    loaded = load_small(tmp_path)
    digests = []
    for name, tensor in sorted(loaded.module.state_dict().items()):
        digest = hashlib.sha256(repr(tuple(tensor.shape)).encode())
        digest.update(tensor.contiguous().reshape(-1).numpy().tobytes())
        digests.append([name, digest.hexdigest()])
    identity = {
        "scheme": 1,
        "architecture": CONFIG | {"quick_gelu": False},
        "weights": digests,
        "preprocessing": "targetpad",
        "target_ratio": 1.25,
        "image_size": 32,
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
    }
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    assert fingerprint(loaded) == f"clip-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


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
