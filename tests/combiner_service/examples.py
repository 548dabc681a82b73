"""Small networks, features and an independent evaluation of the network, shared by these tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from combiner_service.combiner import Combiner
from combiner_service.network_spec import NetworkSizes
from combiner_service.registry import Registry

if TYPE_CHECKING:
    import torch


def combiner_of(registry: Registry, name: str) -> Combiner:
    """Return the combiner of a name, which is no inversion."""
    found = registry.get(name)
    assert isinstance(found, Combiner)
    return found


SMALL = NetworkSizes(feature_dim=8, projection_dim=12, hidden_dim=16)


def weights_of(sizes: NetworkSizes = SMALL, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Seeded weights of about the scale that training leaves, float32."""
    generator = np.random.default_rng(seed)
    return {
        name: (generator.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
        for name, shape in sizes.shapes().items()
    }


def features_of(count: int, dimension: int = SMALL.feature_dim, seed: int = 0) -> NDArray[np.float32]:
    """Raw features: about the length of CLIP's, not normalised."""
    generator = np.random.default_rng(seed + 1000)
    return (generator.standard_normal((count, dimension)) * 3).astype(np.float32)


def tensors_of(weights: Mapping[str, NDArray[np.float32]]) -> dict[str, torch.Tensor]:
    """Return the weights as torch holds them."""
    import torch

    return {name: torch.tensor(array) for name, array in weights.items()}


def save_published(
    path: Path, weights: Mapping[str, NDArray[np.float32]], epoch: int = 7, dtype: torch.dtype | None = None
) -> Path:
    """Write the dictionary that the method's authors publish."""
    import torch

    state = {name: tensor.to(dtype or tensor.dtype) for name, tensor in tensors_of(weights).items()}
    torch.save({"epoch": epoch, "Combiner": state}, path)
    return path


def combine_by_formulae(
    weights: Mapping[str, NDArray[np.floating]],
    image: NDArray[np.floating],
    text: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The network by its formulae alone, in float64 and without torch's layers: (query, lambda)."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    image64, text64 = image.astype(np.float64), text.astype(np.float64)

    def linear(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
        return result

    both = np.maximum(
        np.hstack([linear("text_projection_layer", text64), linear("image_projection_layer", image64)]), 0
    )
    v = linear("output_layer", np.maximum(linear("combiner_layer", both), 0))
    scalar = linear("dynamic_scalar.3", np.maximum(linear("dynamic_scalar.0", both), 0))
    lam = 1 / (1 + np.exp(-scalar))
    mixed = v + lam * text64 + (1 - lam) * image64
    return mixed / np.linalg.norm(mixed, axis=1, keepdims=True), lam[:, 0]
