"""Preprocessing and activation that weights were trained with, and what an operator states of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from embedder_service.images.preprocess import Interpolation, ResizeMode


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
