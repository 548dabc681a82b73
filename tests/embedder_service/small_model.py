"""A CLIP small enough for tests, and checkpoints of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from embedder_service.model.weights import LoadedModel, load_model
from tests.embedder_service.small_config import write_config


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
