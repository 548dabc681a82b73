"""The model that a service serves, by any runtime: its interface for the engine, and its description."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cir.common.v1 import model_pb2
from embedder_service.batching.batcher import ShareDevice
from embedder_service.batching.jobs import Features, Tokens
from embedder_service.engine import Model
from embedder_service.images.normalisation import parse_mean, parse_std
from embedder_service.images.preprocess import Interpolation, PaddingMode, Preprocessor, ResizeMode
from embedder_service.settings import EmbedderSettings
from embedder_service.traits import Choices, Traits


class Encoder(Model, Protocol):
    """A model on its device: model/clip.py by torch, light/model.py by OpenVINO."""

    image_size: int

    def encode_texts(self, texts: Sequence[str]) -> Features:
        """Return float32 (n, d) raw features of texts."""

    def long_texts(self, texts: Sequence[str], tokens: Tokens) -> dict[int, int]:
        """Return the number of tokens of each text that was cut, by its place."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model that a service serves.

    `lanes` passes run at a time; `share_device` divides a CPU between them, and is None on a GPU.
    `release_memory` gives back what passes computed in, and is called while none runs.
    """

    model: Encoder
    preprocessor: Preprocessor
    info: model_pb2.ModelInfo
    lanes: int = 1
    share_device: ShareDevice | None = None
    release_memory: Callable[[], None] | None = None


def choices_of(settings: EmbedderSettings) -> Choices:
    """Return the traits that the settings state."""
    return Choices(
        mean=None if settings.mean is None else parse_mean(settings.mean),
        std=None if settings.std is None else parse_std(settings.std),
        interpolation=None if settings.interpolation is None else Interpolation(settings.interpolation),
        resize_mode=None if settings.resize_mode is None else ResizeMode(settings.resize_mode),
        quick_gelu=settings.quick_gelu,
    )


def make_preprocessor(settings: EmbedderSettings, traits: Traits, size: int) -> Preprocessor:
    """Return the preprocessing that settings and weights ask for.

    Padding "auto" is the method's where the model crops what stands out.
    """
    if settings.preprocessing != "auto":
        mode = PaddingMode(settings.preprocessing)
    else:
        mode = PaddingMode.TARGETPAD if traits.resize_mode is ResizeMode.SHORTEST else PaddingMode.CLIP
    return Preprocessor(
        mode=mode,
        size=size,
        target_ratio=settings.target_ratio,
        max_pixels=settings.max_preprocessed_pixels,
        resize_mode=traits.resize_mode,
        interpolation=traits.interpolation,
        fill=traits.fill,
    )


def preprocessing_info(preprocessor: Preprocessor, traits: Traits) -> model_pb2.ModelInfo:
    """Return what is said of a model's preprocessing and activation; the rest of the message is empty."""
    return model_pb2.ModelInfo(
        image_size=preprocessor.size,
        preprocessing=preprocessor.mode.value,
        target_ratio=preprocessor.padding_ratio,
        mean=traits.mean,
        std=traits.std,
        interpolation=traits.interpolation.value,
        resize_mode=traits.resize_mode.value,
        fill=traits.fill,
        activation="quick_gelu" if traits.quick_gelu else "gelu",
    )
