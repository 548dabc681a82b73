"""From settings to a model on its device, with its identity.

The fingerprint is a hash over everything that the features depend on, and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from cir.common.v1 import model_pb2
from embedder_service.images.preprocess import PaddingMode, Preprocessor
from embedder_service.model.clip import ClipModel, image_size
from embedder_service.model.device import choose_device
from embedder_service.model.precision import choose_dtype, dtype_name, verify_dtype
from embedder_service.model.weights import load_model
from embedder_service.settings import EmbedderSettings

# To be increased when the same settings give other features than before.
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


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model that a service serves."""

    model: ClipModel
    preprocessor: Preprocessor
    info: model_pb2.ModelInfo


def load(settings: EmbedderSettings) -> ServedModel:
    """Load the model, choose its dtype and identify it.

    Raises:
        StartupError: the model cannot be loaded; the message is one line.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    loaded = load_model(
        settings.architecture,
        settings.pretrained,
        config_file=settings.model_config_file,
        cache_dir=settings.weights_cache,
    )
    preprocessor = Preprocessor(
        mode=PaddingMode(settings.preprocessing),
        size=image_size(loaded),
        target_ratio=settings.target_ratio,
        max_pixels=settings.max_preprocessed_pixels,
    )
    # Before the model moves: its identity is that of its float32 weights.
    fingerprint = model_fingerprint(
        loaded.config, loaded.module.state_dict(), preprocessor, loaded.mean, loaded.std
    )
    verified = verify_dtype(loaded, device, dtype, settings.min_dtype_cosine)
    info = model_pb2.ModelInfo(
        fingerprint=fingerprint,
        architecture=loaded.architecture,
        pretrained=loaded.pretrained,
        dimension=verified.model.dimension,
        image_size=verified.model.image_size,
        preprocessing=preprocessor.mode.value,
        target_ratio=preprocessor.padding_ratio,
        device=str(device),
        dtype=dtype_name(verified.model.dtype),
        dtype_cosine=verified.cosine,
        refused_dtype=verified.refused_dtype,
        refused_dtype_cosine=verified.refused_cosine,
        int8_layers=verified.int8_layers,
    )
    return ServedModel(verified.model, preprocessor, info)
