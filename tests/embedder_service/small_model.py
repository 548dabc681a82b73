"""A CLIP small enough for tests, in open_clip's own layout, and checkpoints of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from embedder_service.model.weights import LoadedModel, load_model

CONFIG: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def write_config(folder: Path, **changes: Any) -> Path:
    """Write the architecture's JSON file, with changes at its top level."""
    path = folder / "small.json"
    path.write_text(json.dumps(CONFIG | changes))
    return path


def load_small(folder: Path, pretrained: str = "random:7", **changes: Any) -> LoadedModel:
    """The small model with the weights that `pretrained` names."""
    return load_model("small", pretrained, config_file=write_config(folder, **changes))


def save(state: dict[str, Any], path: Path) -> Path:
    """Save a state dict: safetensors by that suffix, else with torch."""
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        torch.save(state, path)
    return path
