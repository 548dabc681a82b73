"""Combiners that are known by name, without a checkpoint: the built-in ones, and those of plug-ins.

`BUILTIN` is the one list: a combiner that stands there is served, counted, compared and offered everywhere.
All built-in combiners take features of any model and any dimension.
"""

from __future__ import annotations

import numpy as np

from combiner_service.combiner import (
    Combined,
    Combiner,
    CombinerInfo,
    Float32,
    Float64,
    constant_weight,
    unit_rows,
)
from combiner_service.plugins import load_plugins


class SumCombiner(Combiner):
    """normalise((1 - w) * image + w * text) on raw features; w is 0.5 unless given.

    With w = 0.5 this is the element-wise sum of the paper's baseline: halving both terms does not change
    the direction. The features are raw, so a modality with longer vectors has more say at equal weight.
    """

    def __init__(self) -> None:
        super().__init__(
            CombinerInfo(
                name="sum",
                description="Weighted sum of the raw features, normalised; equal weights unless given.",
                takes_text_weight=True,
            )
        )

    def _combine(
        self, image_features: Float32, text_features: Float32, text_weight: float | None
    ) -> Combined:
        weight = 0.5 if text_weight is None else text_weight
        total = (1.0 - weight) * image_features.astype(np.float64) + weight * text_features.astype(np.float64)
        return constant_weight(unit_rows(total), weight)


class ImageCombiner(Combiner):
    """The image feature, normalised; the text is ignored. Text weight 0."""

    def __init__(self) -> None:
        super().__init__(
            CombinerInfo(
                name="image",
                description="The image feature alone, normalised; the text is ignored.",
                takes_text_weight=False,
            )
        )

    def _combine(
        self, image_features: Float32, text_features: Float32, text_weight: float | None
    ) -> Combined:
        return constant_weight(unit_rows(image_features), 0.0)


class TextCombiner(Combiner):
    """The text feature, normalised; the image is ignored. Text weight 1."""

    def __init__(self) -> None:
        super().__init__(
            CombinerInfo(
                name="text",
                description="The text feature alone, normalised; the image is ignored.",
                takes_text_weight=False,
            )
        )

    def _combine(
        self, image_features: Float32, text_features: Float32, text_weight: float | None
    ) -> Combined:
        return constant_weight(unit_rows(text_features), 1.0)


# Below this sine the part of the text that is orthogonal to the image is rounding of float32 input.
_SMALLEST_SINE = 1e-7


# Measured; docs/combiners.md has the table.
_SLERP_TEXT_WEIGHT = 0.6


class SlerpCombiner(Combiner):
    """A point on the great circle from the image (w = 0) to the text (w = 1); w is 0.6 unless given.

    The length of the features plays no part.
    """

    def __init__(self) -> None:
        super().__init__(
            CombinerInfo(
                name="slerp",
                description="Spherical interpolation from image to text, nearer to the text unless given.",
                takes_text_weight=True,
            )
        )

    def _combine(
        self, image_features: Float32, text_features: Float32, text_weight: float | None
    ) -> Combined:
        weight = _SLERP_TEXT_WEIGHT if text_weight is None else text_weight
        vectors = slerp(unit_rows(image_features), unit_rows(text_features), weight)
        return constant_weight(vectors, weight)


def slerp(start: Float64, end: Float64, fraction: float) -> Float64:
    """Interpolate between unit rows along the shorter great circle. (n, d), (n, d) -> (n, d) float64.

    Written as cos(a)*start + sin(a)*across, with `across` the unit vector orthogonal to start on the way
    to end, and a = fraction * angle. The textbook form divides by the sine of the angle and loses all
    digits when the vectors are nearly parallel or nearly opposite; this one does not. Between exactly
    opposite vectors every great circle is as short: one is chosen that depends on `start` alone.
    """
    cosine = np.einsum("ij,ij->i", start, end)
    orthogonal = end - cosine[:, None] * start
    sine = np.linalg.norm(orthogonal, axis=1)
    undefined = sine < _SMALLEST_SINE
    orthogonal[undefined] = _orthogonal_axis(start[undefined])
    # A second projection: after cancellation the first leaves a remainder along start.
    orthogonal -= np.einsum("ij,ij->i", orthogonal, start)[:, None] * start
    norms = np.linalg.norm(orthogonal, axis=1, keepdims=True)
    # Only vectors of one value leave nothing orthogonal: there is no circle to walk on.
    across = np.divide(orthogonal, norms, out=np.zeros_like(orthogonal), where=norms > 0)
    angle = fraction * np.arctan2(sine, cosine)
    return unit_rows(np.cos(angle)[:, None] * start + np.sin(angle)[:, None] * across)


def _orthogonal_axis(vectors: Float64) -> Float64:
    """The coordinate axis farthest from each unit row, made orthogonal to it. (n, d) -> (n, d)."""
    axes = np.zeros_like(vectors)
    axes[np.arange(len(vectors)), np.abs(vectors).argmin(axis=1)] = 1.0
    orthogonal: Float64 = axes - np.einsum("ij,ij->i", axes, vectors)[:, None] * vectors
    return orthogonal


#: In the order in which they are listed. A further combiner is a further line.
BUILTIN: tuple[Combiner, ...] = (
    SumCombiner(),
    SlerpCombiner(),
    ImageCombiner(),
    TextCombiner(),
)


def builtin_names() -> list[str]:
    """Return the names of the built-in combiners, in their order."""
    return [combiner.info.name for combiner in BUILTIN]


def named_combiners() -> dict[str, Combiner]:
    """Return every combiner without a checkpoint by its name: the built-in ones, then plug-ins by name.

    Raises:
        PluginError: An installed combiner cannot be used.
    """
    combiners = (*BUILTIN, *load_plugins(builtin_names()))
    return {combiner.info.name: combiner for combiner in combiners}
