"""A model's identity: a hash over everything that its features depend on, and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from embedder_service.preprocess import Preprocessor

# Raise it when the same settings give other features than before.
_SCHEME = 1


def model_fingerprint(
    config: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
    preprocessor: Preprocessor,
    mean: Sequence[float],
    std: Sequence[float],
) -> str:
    """Return "clip-" and 32 hexadecimal digits.

    `weights` are hashed by name, shape and float32 bytes: a checkpoint in another dtype is the same model if
    its values are. Device, dtype at run time and threads do not matter.
    """
    names = sorted(name for name in weights if not name.endswith("num_batches_tracked"))
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        digests = list(pool.map(lambda name: _digest(weights[name]), names))
    identity = {
        "scheme": _SCHEME,
        "architecture": config,
        "weights": list(zip(names, digests, strict=True)),
        "preprocessing": preprocessor.mode.value,
        "target_ratio": preprocessor.padding_ratio,
        "image_size": preprocessor.size,
        "mean": [float(value) for value in mean],
        "std": [float(value) for value in std],
    }
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return f"clip-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _digest(tensor: torch.Tensor) -> str:
    values = tensor.detach().to(device="cpu", dtype=torch.float32).contiguous()
    digest = hashlib.sha256(repr(tuple(values.shape)).encode())
    digest.update(values.reshape(-1).numpy().astype("<f4", copy=False).data)
    return digest.hexdigest()
