"""Composers of the embedder in evaluation: inversions with the text tower, and joint encoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from combiner_service.combiner import Combined, Combiner, CombinerInfo, Float32, unit_rows
from combiner_service.errors import BadAnswerError, CombinerError, TextWeightNotTakenError
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


#: (names of images, texts) to queries (n, d).
ReadPairs = Callable[[Sequence[str], Sequence[str]], Float32]


@dataclass(frozen=True, slots=True)
class ReadJoint:
    """A joint encoder with the images that it reads."""

    info: CombinerInfo
    read: ReadPairs


Evaluated = Combiner | ReadInversion | ReadJoint


def compose(
    composer: Evaluated,
    image_features: Float32,
    text_features: Float32,
    texts: Sequence[str],
    text_weight: float | None = None,
    *,
    images: Sequence[str] = (),
) -> Combined:
    """Make queries of (n, d) raw features and n texts. Where nothing is weighed, text weights are NaN.

    `images` are the names of the images, which a joint encoder reads.

    Raises:
        CombinerError: The features or the text weight are refused, or the composer fails on them.
    """
    try:
        return _compose(composer, image_features, text_features, texts, text_weight, images)
    except CombinerError:
        raise
    except Exception as error:
        # A composer of somebody's own may fail in any way.
        raise BadAnswerError(f"{composer.info.name} failed: {type(error).__name__}: {error}") from error


def _compose(
    composer: Evaluated,
    image_features: Float32,
    text_features: Float32,
    texts: Sequence[str],
    text_weight: float | None,
    images: Sequence[str],
) -> Combined:
    if isinstance(composer, Combiner):
        return composer.combine(image_features, text_features, text_weight)
    if text_weight is not None:
        raise TextWeightNotTakenError(f"{composer.info.name} weighs nothing; leave the text weight out")
    if isinstance(composer, ReadJoint):
        rows = composer.read(images, texts)
    else:
        words = composer.inversion.invert(image_features)
        rows = composer.read(composer.inversion.template, texts, words)
    vectors = unit_rows(rows).astype(np.float32)
    return Combined(vectors, np.full(len(vectors), np.nan, np.float32))
