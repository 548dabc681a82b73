"""From settings to a model on its device, with its identity. The only way from the service to torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cir.common.v1 import model_pb2
from embedder_service.fingerprint import model_fingerprint
from embedder_service.model import ClipModel, image_size
from embedder_service.precision import choose_device, choose_dtype, dtype_name, true_model
from embedder_service.preprocess import Mode, Preprocessor
from embedder_service.settings import EmbedderSettings
from embedder_service.weights import load_model


@dataclass(frozen=True, slots=True)
class HeldModel:
    """The model that a service holds."""

    model: ClipModel
    preprocessor: Preprocessor
    info: model_pb2.ModelInfo


def load(settings: EmbedderSettings) -> HeldModel:
    """Load, measure and identify the model. Raises StartupError with one line."""
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
        mode=Mode(settings.preprocessing),
        size=image_size(loaded),
        target_ratio=settings.target_ratio,
        max_pixels=settings.max_preprocessed_pixels,
    )
    # Before the model moves: its identity is that of its float32 weights.
    fingerprint = model_fingerprint(
        loaded.config, loaded.module.state_dict(), preprocessor, loaded.mean, loaded.std
    )
    trued = true_model(loaded, device, dtype, settings.min_dtype_cosine)
    info = model_pb2.ModelInfo(
        fingerprint=fingerprint,
        architecture=loaded.architecture,
        pretrained=loaded.pretrained,
        dimension=trued.model.dimension,
        image_size=trued.model.image_size,
        preprocessing=preprocessor.mode.value,
        target_ratio=preprocessor.padding_ratio,
        device=str(device),
        dtype=dtype_name(trued.model.dtype),
        dtype_cosine=trued.cosine,
        refused_dtype=trued.refused_dtype,
        refused_dtype_cosine=trued.refused_cosine,
        int8_layers=trued.int8_layers,
    )
    return HeldModel(trued.model, preprocessor, info)
