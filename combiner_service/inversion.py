"""Textual inversion: an image becomes a word embedding, which the text tower reads next to the text.

An inversion never sees the text: it answers with the word and with the sentence that word and text belong
into. The embedder makes the query of them (EmbedPrompts), so that a query costs one text more than by a
combiner.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cir.prompts import TemplateError, parse_template
from combiner_service.combiner import CombinerInfo, Composer, Float32, Pairs, check_pairs, unit_rows
from combiner_service.errors import (
    BadAnswerError,
    CombinerError,
    InvalidCheckpointError,
    NotFiniteError,
    TextWeightNotTakenError,
)

#: Sentence of the published inversions (SEARLE, LinCIR), for checkpoints that name none.
PUBLISHED_TEMPLATE = "a photo of {image} that {text}"
TEMPLATE, FEATURE_LENGTH = "template", "feature_length"


@dataclass(frozen=True, slots=True)
class Inverted:
    """Word embeddings of images, (n, token width) float32, and the sentence that each belongs into."""

    words: Float32
    template: str


class Inversion(Composer):
    """A function of image features to word embeddings of the text tower of the same model.

    `info.needs` is `Needs.TEXT_TOWER`; `info.token_width` and `template` are set.

    Raises:
        TemplateError: The template is none.
    """

    def __init__(self, info: CombinerInfo, template: str) -> None:
        super().__init__(info)
        parse_template(template)
        self.template = template

    def combine_all(self, calls: Sequence[Pairs]) -> list[Inverted | CombinerError]:
        """Invert the images of all calls at once; a refusal takes the place of that call's answer.

        Raises:
            InvalidFeaturesError, WrongDimensionError, NotFiniteError: See `check_pairs`.
            TextWeightNotTakenError: Any text weight: the text tower weighs nothing.
        """
        outcomes: dict[int, Inverted | CombinerError] = {}
        for index, call in enumerate(calls):
            try:
                self._check(call)
            except CombinerError as error:
                outcomes[index] = error
        sound = [index for index in range(len(calls)) if index not in outcomes]
        if sound:
            words = self._words(np.concatenate([calls[index].image_features for index in sound]))
            ends = np.cumsum([len(calls[index].image_features) for index in sound])[:-1]
            for index, part in zip(sound, np.split(words, ends), strict=True):
                outcomes[index] = self._answer(part)
        return [outcomes[index] for index in range(len(calls))]

    def invert(self, image_features: Float32) -> Float32:
        """Return word embeddings, (n, token width) float32, of raw image features, (n, d).

        Raises:
            CombinerError: As for `combine_all`.
        """
        (answer,) = self.combine_all([Pairs(image_features, image_features)])
        if isinstance(answer, CombinerError):
            raise answer
        return answer.words

    @abstractmethod
    def _invert(self, image_features: Float32) -> Float32:
        """Do the work of `invert`, on features that were checked. Each row depends on the same row alone."""

    def _words(self, image_features: Float32) -> Float32:
        words, shape = self._invert(image_features), (len(image_features), self.info.token_width)
        if not isinstance(words, np.ndarray) or words.shape != shape or words.dtype.kind != "f":
            given = getattr(words, "shape", type(words).__name__)
            raise BadAnswerError(
                f"{self.info.name} answered with {given} to {shape[0]} images; "
                f"expected floats of shape {shape}"
            )
        return words.astype(np.float32, copy=False)

    def _check(self, call: Pairs) -> None:
        if call.text_weight is not None:
            raise TextWeightNotTakenError(
                f"{self.info.name} weighs nothing: the text tower reads the image as a word of the sentence; "
                "leave text_weight out, or use a combiner that takes it (takes_text_weight in ListCombiners)",
                field="text_weight",
            )
        check_pairs(call.image_features, call.text_features, dimension=self.info.dimension)

    def _answer(self, words: Float32) -> Inverted | CombinerError:
        bad = np.flatnonzero(~np.isfinite(words).all(axis=1))
        if bad.size:
            return NotFiniteError(
                f"row {bad[0]}: the word embedding left the range of float32; send raw features of the model "
                "that the inversion was trained on"
            )
        return Inverted(words, self.template)


@dataclass(frozen=True, slots=True)
class InversionTraits:
    """Sentence of an inversion, and the length that it takes features at; 0 takes them as they are."""

    template: str = PUBLISHED_TEMPLATE
    feature_length: float = 0.0

    def texts(self) -> dict[str, str]:
        """Return the traits as a checkpoint holds them."""
        return {TEMPLATE: self.template, FEATURE_LENGTH: str(self.feature_length)}


def inversion_traits(metadata: Mapping[str, str]) -> InversionTraits:
    """Return the traits that a checkpoint's metadata name, the published ones for those that it does not.

    Raises:
        InvalidCheckpointError: A template or a length that cannot be used.
    """
    template = metadata.get(TEMPLATE, PUBLISHED_TEMPLATE)
    text = metadata.get(FEATURE_LENGTH, "0")
    try:
        parse_template(template)
        length = float(text)
    except TemplateError as error:
        raise InvalidCheckpointError(f"the header's {TEMPLATE}: {error}") from error
    except ValueError as error:
        raise InvalidCheckpointError(f"{FEATURE_LENGTH} in the header is {text[:40]!r}, no number") from error
    if not (math.isfinite(length) and length >= 0):
        raise InvalidCheckpointError(f"{FEATURE_LENGTH} in the header is {text[:40]!r}; expected 0 or more")
    return InversionTraits(template, length)


#: (n, d) float32 features to (n, token width) float32 word embeddings. Safe to call from several threads.
PhiRuntime = Callable[[Float32], Float32]


class PhiInversion(Inversion):
    """The network phi of SEARLE and LinCIR. Safe to call from several threads at once."""

    def __init__(self, info: CombinerInfo, runtime: PhiRuntime, traits: InversionTraits) -> None:
        super().__init__(info, traits.template)
        self.runtime = runtime
        self._length = traits.feature_length

    def _invert(self, image_features: Float32) -> Float32:
        if self._length:
            image_features = (unit_rows(image_features) * self._length).astype(np.float32)
        return self.runtime(image_features)
