"""Families of models small enough for tests: own architectures, and tags as open_clip publishes them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import open_clip
import pytest

from tests.embedder_service.small_config import CONFIG

OPENAI = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
#: Preprocessing as open_clip publishes it with tags, by family.
PUBLISHED: dict[str, dict[str, Any]] = {
    "clip": OPENAI | {"interpolation": "bicubic", "resize_mode": "shortest"},
    "openai": OPENAI | {"interpolation": "bicubic", "resize_mode": "shortest", "quick_gelu": True},
    "siglip": {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic", "resize_mode": "squash"},
    "mobile": {"mean": (0.0,) * 3, "std": (1.0,) * 3, "interpolation": "bilinear", "resize_mode": "shortest"},
    "pe": {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear", "resize_mode": "squash"},
}


def publish(patch: pytest.MonkeyPatch, name: str, *families: str, **changes: Any) -> dict[str, Any]:
    """Let open_clip know a small architecture with a tag for each family; return its config."""
    config = copy.deepcopy(CONFIG) | {"embed_dim": 32 + 8 * len(families)} | changes
    patch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)
    patch.setitem(open_clip.pretrained._PRETRAINED, name, {family: PUBLISHED[family] for family in families})
    return copy.deepcopy(config)


def write_document(folder: Path, config: dict[str, Any], preprocess: dict[str, Any] | None) -> Path:
    """Write the document that lies with published weights."""
    folder.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"model_cfg": config}
    if preprocess is not None:
        document["preprocess_cfg"] = preprocess
    path = folder / "open_clip_config.json"
    path.write_text(json.dumps(document))
    return path
