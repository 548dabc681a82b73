"""From settings to a model on its device, with its identity.

The fingerprint is a hash over everything that the features depend on, and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from cir.common.v1 import model_pb2
from embedder_service.images.normalisation import parse_mean, parse_std
from embedder_service.images.preprocess import Interpolation, PaddingMode, Preprocessor, ResizeMode
from embedder_service.model.checkpoint import one_line
from embedder_service.model.clip import ClipModel, image_size
from embedder_service.model.description import Choices
from embedder_service.model.device import choose_device
from embedder_service.model.precision import choose_dtype, dtype_name, verify_dtype
from embedder_service.model.tokenizer import Tokenizer, make_tokenizer
from embedder_service.model.weights import LoadedModel, load_model
from embedder_service.settings import EmbedderSettings
from service_runtime.errors import StartupError

# To be increased when the same settings give other features than before.
_SCHEME = 1


def model_fingerprint(
    config: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
    preprocessor: Preprocessor,
    mean: Sequence[float],
    std: Sequence[float],
    words: Mapping[str, Any] | None = None,
) -> str:
    """Return "clip-" and 32 hexadecimal digits.

    `weights` are hashed by name, shape and float32 bytes: a checkpoint in another dtype is the same model if
    its values are. `words` says what a tokenizer and a text tower of Hugging Face do, which lie in files that
    a config only names (see `describe_words`). Device, dtype at run time and threads do not matter.
    """
    names = sorted(name for name in weights if not name.endswith("num_batches_tracked"))
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        digests = list(pool.map(lambda name: _digest(weights[name]), names))
    identity: dict[str, Any] = {
        "scheme": _SCHEME,
        "architecture": config,
        "weights": list(zip(names, digests, strict=True)),
        "preprocessing": preprocessor.mode.value,
        "target_ratio": preprocessor.padding_ratio,
        "image_size": preprocessor.size,
        "mean": [float(value) for value in mean],
        "std": [float(value) for value in std],
    }
    # What every model had before there was a choice is not written: such a model keeps its identity.
    if preprocessor.interpolation is not Interpolation.BICUBIC:
        identity["interpolation"] = preprocessor.interpolation.value
    if preprocessor.resize_mode is not ResizeMode.SHORTEST:
        identity["resize_mode"] = preprocessor.resize_mode.value
    if preprocessor.resize_mode is ResizeMode.LONGEST:
        identity["fill"] = preprocessor.fill
    if words:
        named = {"hf_tokenizer_name", "hf_model_name", "hf_model_pretrained"}
        text_cfg = {key: value for key, value in config["text_cfg"].items() if key not in named}
        identity |= {"architecture": {**config, "text_cfg": text_cfg}, "words": dict(words)}
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
        choices=choices_of(settings),
    )
    tokenizer = make_tokenizer(
        loaded.config, folder=loaded.folder, override=settings.tokenizer, cache_dir=settings.weights_cache
    )
    traits = loaded.traits
    preprocessor = Preprocessor(
        mode=_padding(settings.preprocessing, traits.resize_mode),
        size=image_size(loaded),
        target_ratio=settings.target_ratio,
        max_pixels=settings.max_preprocessed_pixels,
        resize_mode=traits.resize_mode,
        interpolation=traits.interpolation,
        fill=traits.fill,
    )
    # Before the model moves: its identity is that of its float32 weights.
    fingerprint = model_fingerprint(
        loaded.config,
        loaded.module.state_dict(),
        preprocessor,
        traits.mean,
        traits.std,
        describe_words(loaded.module, tokenizer),
    )
    check_towers(loaded, tokenizer)
    verified = verify_dtype(loaded, device, dtype, settings.min_dtype_cosine, tokenizer)
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
        mean=traits.mean,
        std=traits.std,
        interpolation=traits.interpolation.value,
        resize_mode=traits.resize_mode.value,
        fill=traits.fill,
        activation="quick_gelu" if traits.quick_gelu else "gelu",
        tokenizer=tokenizer.name,
        text_cleaning=tokenizer.cleaning,
        context_length=tokenizer.context,
    )
    return ServedModel(verified.model, preprocessor, info)


def choices_of(settings: EmbedderSettings) -> Choices:
    """Return the traits that the settings state."""
    return Choices(
        mean=None if settings.mean is None else parse_mean(settings.mean),
        std=None if settings.std is None else parse_std(settings.std),
        interpolation=None if settings.interpolation is None else Interpolation(settings.interpolation),
        resize_mode=None if settings.resize_mode is None else ResizeMode(settings.resize_mode),
        quick_gelu=settings.quick_gelu,
    )


def _padding(preprocessing: str, resize_mode: ResizeMode) -> PaddingMode:
    """Return the padding of a setting; "auto" is the method's where the model crops what stands out."""
    if preprocessing != "auto":
        return PaddingMode(preprocessing)
    return PaddingMode.TARGETPAD if resize_mode is ResizeMode.SHORTEST else PaddingMode.CLIP


# What a text tower of Hugging Face computes beyond the shapes of its weights.
_TOWER_KEYS = (
    "model_type", "num_attention_heads", "num_heads", "hidden_act", "feed_forward_proj", "layer_norm_eps",
    "layer_norm_epsilon", "pad_token_id", "position_embedding_type", "relative_attention_num_buckets",
)  # fmt: skip


def describe_words(module: torch.nn.Module, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return what texts become by files that a config only names; empty where the config says it all."""
    words: dict[str, Any] = {}
    if digest := tokenizer.digest():
        words["tokenizer"] = digest
    tower = getattr(getattr(module, "text", None), "config", None)
    if tower is not None:
        words["tower"] = {key: getattr(tower, key) for key in _TOWER_KEYS if hasattr(tower, key)}
    return words


def check_towers(loaded: LoadedModel, tokenizer: Tokenizer) -> None:
    """Let both towers run once.

    Raises:
        StartupError: one fails, or gives features of another length than the config says.
    """
    module: Any = loaded.module
    size, dimension = image_size(loaded), loaded.config["embed_dim"]
    calls: dict[str, Callable[[], torch.Tensor]] = {
        "image": lambda: module.encode_image(torch.zeros(1, 3, size, size)),
        "text": lambda: module.encode_text(torch.from_numpy(tokenizer(["a photo"]))),
    }
    for tower, run in calls.items():
        try:
            with torch.inference_mode():
                shape = tuple(run().shape)
        except Exception as error:
            # Whatever torch raises where sizes of a config do not fit one another.
            raise StartupError(
                f"the {tower} tower of {loaded.architecture} does not run: {one_line(error)}; its config "
                "does not fit "
                "(image_size, context_length, vocab_size, tokenizer)"
            ) from error
        if shape != (1, dimension):
            raise StartupError(
                f"the {tower} tower of {loaded.architecture} gives features of length {shape[-1]}, its "
                "config says "
                f"embed_dim {dimension}: it has no projection; give it one (timm_proj, proj_type) or correct "
                "embed_dim"
            )
