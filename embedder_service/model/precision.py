"""The dtype that the model computes in: chosen from the host, and kept only if features stay near float32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from embedder_service.batching.jobs import Features
from embedder_service.images.preprocess import Pixels
from embedder_service.model.clip import ClipModel
from embedder_service.model.device import read_cpu_flags
from embedder_service.model.int8 import Int8Layers
from embedder_service.model.tokenizer import Tokenizer, make_tokenizer
from embedder_service.model.weights import LoadedModel

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.int8,
}
# Either instruction set multiplies bfloat16 in hardware; without them it is slower than float32.
_BFLOAT16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})
_PROBE_TEXTS = (
    "",
    "a red dress",
    "is shorter and has long sleeves",
    "the same shirt in dark blue with a floral pattern and a round collar",
)


@dataclass(frozen=True, slots=True)
class VerifiedModel:
    """A model whose dtype was compared with float32."""

    model: ClipModel
    cosine: float
    """Smallest cosine of its features to those in float32 on the probe; 1 for float32 itself."""
    refused_dtype: str = ""
    """The dtype that fell below the bound, so that float32 is used instead; empty when none did."""
    refused_cosine: float = 1.0
    int8_layers: str = ""
    """The quantised layers where the dtype is int8; empty for every other dtype."""


def choose_dtype(name: str, device: torch.device, cpu_flags: frozenset[str] | None = None) -> torch.dtype:
    """Return the dtype for "auto", "float32", "bfloat16", "float16" or "int8".

    Auto is bfloat16 on CUDA (float16 on cards before Ampere) and on CPUs that multiply it in hardware, else
    float32. int8 is never chosen automatically: how near it comes depends on the weights.
    """
    if name != "auto":
        return _DTYPES[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    flags = read_cpu_flags() if cpu_flags is None else cpu_flags
    return torch.bfloat16 if flags & _BFLOAT16_FLAGS else torch.float32


def verify_dtype(
    loaded: LoadedModel,
    device: torch.device,
    dtype: torch.dtype,
    bound: float,
    tokenizer: Tokenizer | None = None,
) -> VerifiedModel:
    """Put the model on the device in `dtype`, or in float32 if its features would fall below the bound.

    int8 is tried on fewer and fewer layers before float32 is used instead. Without a `tokenizer` it is that
    of the model's config.
    """
    tokenizer = tokenizer or make_tokenizer(loaded.config, folder=loaded.folder)
    if dtype is torch.float32:
        return VerifiedModel(ClipModel(loaded, device, dtype, tokenizer=tokenizer), 1.0)
    choices = list(Int8Layers) if dtype is torch.int8 else [Int8Layers.ALL]
    exact = ClipModel(loaded, device, torch.float32, tokenizer=tokenizer)
    expected = probe_features(exact)
    best = 0.0
    for layers in choices:
        reduced = ClipModel(loaded, device, dtype, layers, tokenizer)
        cosine = smallest_cosine(probe_features(reduced), expected)
        if cosine >= bound:
            return VerifiedModel(reduced, cosine, int8_layers=str(layers) if dtype is torch.int8 else "")
        best = max(best, cosine)
    return VerifiedModel(exact, 1.0, refused_dtype=dtype_name(dtype), refused_cosine=best)


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name as the settings and the info answer write it."""
    return next(name for name, value in _DTYPES.items() if value is dtype)


def probe_features(model: ClipModel) -> Features:
    """Return features of a few drawn images and texts, as rows."""
    images = model.encode_images(probe_images(model.image_size))
    return np.concatenate([images, model.encode_texts(_PROBE_TEXTS)])


def probe_images(size: int) -> Pixels:
    """Return uint8 (8, size, size, 3): black, white, two gradients, and noise of four grains."""
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 255, size, dtype=np.float32)
    across = np.broadcast_to(ramp[None, :, None], (size, size, 3))
    down = np.broadcast_to(ramp[:, None, None], (size, size, 3)) * np.array([1.0, 0.5, 0.0], np.float32)
    flat = np.zeros((size, size, 3), np.float32)
    noise = []
    for grain in (1, 4, 16, 64):
        cells = random.uniform(0, 255, (-(-size // grain), -(-size // grain), 3)).astype(np.float32)
        noise.append(cells.repeat(grain, axis=0).repeat(grain, axis=1)[:size, :size])
    return np.stack([flat, flat + 255, across, down, *noise]).astype(np.uint8)


def smallest_cosine(left: Features, right: Features) -> float:
    """Return the smallest cosine between rows of the same index; 0 when a feature is not finite."""
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines = (left * right).sum(axis=1, dtype=np.float64) / np.maximum(norms, 1e-12)
    return float(cosines.min()) if np.isfinite(cosines).all() else 0.0
