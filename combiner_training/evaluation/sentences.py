"""Inversions in evaluation: the word of each image is read by the text tower, in a sentence with the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from combiner_service.combiner import Combined, Combiner, CombinerInfo, Float32, unit_rows
from combiner_service.errors import TextWeightNotTakenError
from combiner_service.inversion import Inversion

#: (template, texts, word embeddings (n, token width)) to raw features (n, d) of the sentences.
Sentences = Callable[[str, Sequence[str], Float32], Float32]


@dataclass(frozen=True, slots=True)
class ReadInversion:
    """An inversion with the text tower that reads its words."""

    inversion: Inversion
    read: Sentences

    @property
    def info(self) -> CombinerInfo:
        """Description of the inversion."""
        return self.inversion.info


Evaluated = Combiner | ReadInversion


def compose(
    composer: Evaluated,
    image_features: Float32,
    text_features: Float32,
    texts: Sequence[str],
    text_weight: float | None = None,
) -> Combined:
    """Make queries of (n, d) raw features and n texts; an inversion's text weights are NaN.

    Raises:
        CombinerError: The features or the text weight are refused.
    """
    if isinstance(composer, Combiner):
        return composer.combine(image_features, text_features, text_weight)
    if text_weight is not None:
        raise TextWeightNotTakenError("an inversion weighs nothing; leave the text weight out")
    words = composer.inversion.invert(image_features)
    vectors = unit_rows(composer.read(composer.inversion.template, texts, words)).astype(np.float32)
    return Combined(vectors, np.full(len(vectors), np.nan, np.float32))
