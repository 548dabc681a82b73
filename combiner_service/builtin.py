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
    Composer,
    Float32,
    constant_weight,
    slerp,
    unit_rows,
)
from combiner_service.plugins import load_plugins


class SumCombiner(Combiner):
    """normalise(image + text) on raw features: the element-wise sum of the paper's baseline.

    The features are raw, so a modality with longer vectors has more say.
    """

    def __init__(self) -> None:
        super().__init__(
            CombinerInfo(
                name="sum",
                description="Sum of the raw features, normalised.",
                takes_text_weight=True,
            )
        )

    def _combine(self, image_features: Float32, text_features: Float32) -> Combined:
        total = image_features.astype(np.float64) + text_features.astype(np.float64)
        return constant_weight(unit_rows(total), 0.5)


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

    def _combine(self, image_features: Float32, text_features: Float32) -> Combined:
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

    def _combine(self, image_features: Float32, text_features: Float32) -> Combined:
        return constant_weight(unit_rows(text_features), 1.0)


# Measured; docs/combiners.md has the table.
_SLERP_TEXT_WEIGHT = 0.6


class SlerpCombiner(Combiner):
    """A point on the great circle from the image (w = 0) to the text (w = 1); w is 0.6 unless given.

    The length of the features plays no part.
    """

    own_weight = _SLERP_TEXT_WEIGHT

    def __init__(self) -> None:
        super().__init__(
            CombinerInfo(
                name="slerp",
                description="Spherical interpolation from image to text, nearer to the text unless given.",
                takes_text_weight=True,
            )
        )

    def _combine(self, image_features: Float32, text_features: Float32) -> Combined:
        vectors = slerp(unit_rows(image_features), unit_rows(text_features), self.own_weight)
        return constant_weight(vectors, self.own_weight)


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


def named_combiners() -> dict[str, Composer]:
    """Return every composer without a checkpoint by its name: the built-in ones, then plug-ins by name.

    Raises:
        PluginError: An installed combiner cannot be used.
    """
    combiners: tuple[Composer, ...] = (*BUILTIN, *load_plugins(builtin_names()))
    return {combiner.info.name: combiner for combiner in combiners}
