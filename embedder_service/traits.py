"""Traits that weights were trained with (pixels, activation, filling of texts), and those that are stated."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from embedder_service.images.normalisation import parse_mean, parse_std
from embedder_service.images.preprocess import Interpolation, ResizeMode

# What open_clip trains and serves with where a document in its layout does not say otherwise.
_DEFAULTS: Mapping[str, Any] = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}


@dataclass(frozen=True, slots=True)
class Traits:
    """Preprocessing and activation that weights were trained with.

    `mean` and `std` are those of pixels from 0 to 1, for red, green and blue. `fill` is a grey level from 0
    to 255, used by `ResizeMode.LONGEST` alone. `quick_gelu` is the activation of OpenAI's own models.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Interpolation
    resize_mode: ResizeMode
    quick_gelu: bool
    fill: int = 0


@dataclass(frozen=True, slots=True)
class Padding:
    """Filling of short texts by a tokenizer of Hugging Face, and the token of it that becomes 0.

    `zeroed` is a token that open_clip replaces by 0 (its `strip_sep_token`); empty for none.
    """

    token: str
    is_left: bool = False
    zeroed: str = ""


@dataclass(frozen=True, slots=True)
class Choices:
    """Traits that the operator states; None for each that is to be found."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: Interpolation | None = None
    resize_mode: ResizeMode | None = None
    quick_gelu: bool | None = None

    def over(self, traits: Traits) -> Traits:
        """Return `traits` with what is stated in their place."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return dataclasses.replace(
            traits, **{name: value for name, value in values.items() if value is not None}
        )


def read_traits(preprocess: Mapping[str, Any], quick_gelu: object) -> Traits:
    """Return the traits that a preprocessing in open_clip's layout states, with open_clip's defaults.

    Raises:
        ValueError: a value is not possible; the message names it.
    """
    values = {
        key: default if preprocess.get(key) is None else preprocess[key] for key, default in _DEFAULTS.items()
    }
    if preprocess.get("mode") not in (None, "RGB"):
        raise ValueError(f"mode is {preprocess['mode']!r}; only RGB is served")
    # "random" is a choice of training; open_clip prepares images with bicubic then.
    interpolation = "bicubic" if values["interpolation"] == "random" else values["interpolation"]
    fill = values["fill_color"]
    if isinstance(fill, bool) or not isinstance(fill, int) or not 0 <= fill <= 255:
        raise ValueError(f"fill_color is {fill!r}; expected a grey level from 0 to 255")
    return Traits(
        mean=parse_mean(values["mean"]),
        std=parse_std(values["std"]),
        interpolation=_member(Interpolation, "interpolation", interpolation),
        resize_mode=_member(ResizeMode, "resize_mode", values["resize_mode"]),
        quick_gelu=bool(quick_gelu),
        fill=fill,
    )


def _member(kind: Any, name: str, value: object) -> Any:
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"{name} is {value!r}; expected {' or '.join(kind)}") from None
