"""Models that Hugging Face's `CLIPModel` saved: their config in open_clip's layout.

Such a folder or repository has `config.json` with the architecture and the activation, and
`preprocessor_config.json` with mean, standard deviation and resizing; its weights are converted by
`checkpoint.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedder_service.model.description import Document
from service_runtime.errors import StartupError

#: Names of the two documents.
MODEL_CONFIG, PIXELS_CONFIG = "config.json", "preprocessor_config.json"

_ACTIVATIONS = {"quick_gelu": True, "gelu": False}
# Pillow's numbers of filters.
_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}
_VOCABULARY = 49408
# Defaults of transformers' CLIPConfig, which leaves them out of the file.
_VISION: dict[str, Any] = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
_TEXT: dict[str, Any] = {
    "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8,
    "max_position_embeddings": 77, "vocab_size": _VOCABULARY, "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}  # fmt: skip


def read_hugging_face(model_config: Path, pixels_config: Path) -> Document:
    """Read the two documents of a `CLIPModel`.

    Raises:
        StartupError: one is missing or damaged, or describes another model than a CLIP; the message is one
        line.
    """
    model, pixels = _read(model_config), _read(pixels_config)
    if model.get("model_type") != "clip":
        raise StartupError(
            f"{model_config} describes a model of type {model.get('model_type')!r}; of Hugging Face's own "
            "models only 'clip' is read, others need the open_clip_config.json published for open_clip"
        )
    try:
        return Document(model_config, _architecture(model), _preprocessing(pixels))
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise StartupError(f"{model_config} or {PIXELS_CONFIG} cannot be used: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StartupError(f"model config file {path} cannot be used: {error}") from error
    if not isinstance(document, dict):
        raise StartupError(f"model config file {path} cannot be used: it is no object")
    return document


def _architecture(model: Mapping[str, Any]) -> dict[str, Any]:
    vision = _VISION | dict(model.get("vision_config") or {})
    text = _TEXT | dict(model.get("text_config") or {})
    activations = {vision["hidden_act"], text["hidden_act"]}
    if len(activations) > 1 or not activations <= _ACTIVATIONS.keys():
        raise ValueError(
            f"hidden_act is {', '.join(map(repr, sorted(activations)))}; expected one of both towers"
        )
    if text["vocab_size"] != _VOCABULARY:
        raise ValueError(
            f"vocab_size is {text['vocab_size']}; only CLIP's own tokenizer is read, of {_VOCABULARY}"
        )
    return {
        "embed_dim": int(model.get("projection_dim", 512)),
        "quick_gelu": _ACTIVATIONS[activations.pop()],
        "vision_cfg": {
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "head_width": vision["hidden_size"] // vision["num_attention_heads"],
            **_tower(vision),
        },
        "text_cfg": {
            "context_length": text["max_position_embeddings"],
            "vocab_size": text["vocab_size"],
            "heads": text["num_attention_heads"],
            **_tower(text),
        },
    }


def _tower(tower: Mapping[str, Any]) -> dict[str, Any]:
    parts = {
        "width": tower["hidden_size"],
        "layers": tower["num_hidden_layers"],
        "mlp_ratio": tower["intermediate_size"] / tower["hidden_size"],
    }
    if tower["layer_norm_eps"] != 1e-5:
        parts["norm_kwargs"] = {"eps": tower["layer_norm_eps"]}
    return parts


def _preprocessing(pixels: Mapping[str, Any]) -> dict[str, Any]:
    """Return mean, standard deviation and resizing; without its own mean a processor states nothing."""
    if not pixels.get("image_mean") or not pixels.get("image_std"):
        raise ValueError("image_mean and image_std are missing")
    size = pixels.get("size")
    crops = pixels.get("do_center_crop", True)
    squashes = isinstance(size, dict) and "shortest_edge" not in size and not crops
    if not crops and not squashes:
        raise ValueError("do_center_crop is off; expected a crop to a square, or a size of height and width")
    resample = pixels.get("resample", 3)
    if resample not in _INTERPOLATIONS:
        raise ValueError(f"resample is {resample!r}; expected 3 (bicubic) or 2 (bilinear)")
    return {
        "mean": pixels["image_mean"],
        "std": pixels["image_std"],
        "interpolation": _INTERPOLATIONS[resample],
        "resize_mode": "squash" if squashes else "shortest",
    }
