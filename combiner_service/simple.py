"""The combiners without weights to learn: sum, image and text. (slerp has a file of its own.)

They take features of any model and any dimension, and are the baselines of every evaluation.
"""

from __future__ import annotations

import numpy as np

from combiner_service.combiner import Combined, Combiner, CombinerInfo, constant_weight
from combiner_service.features import Float32, unit_rows


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
