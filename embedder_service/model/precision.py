"""The dtype that the model computes in: chosen from the host, and kept only if features stay near float32."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from embedder_service.host import multiplies_bfloat16
from embedder_service.model.clip import ClipModel
from embedder_service.model.tokenizer import Tokenizer, make_tokenizer
from embedder_service.model.weights import LoadedModel
from embedder_service.probe import Int8Layers, first_within, probe_features

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.int8,
}


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
    return torch.bfloat16 if multiplies_bfloat16(cpu_flags) else torch.float32


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
    candidates = [(str(each), partial(ClipModel, loaded, device, dtype, each, tokenizer)) for each in choices]
    chosen, best = first_within(candidates, probe_features(exact), bound)
    if chosen is not None:
        layers = chosen.name if dtype is torch.int8 else ""
        return VerifiedModel(chosen.model, chosen.cosine, int8_layers=layers)
    return VerifiedModel(exact, 1.0, refused_dtype=dtype_name(dtype), refused_cosine=best)


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name as the settings and the info answer write it."""
    return next(name for name, value in _DTYPES.items() if value is dtype)
