"""The one contract that every combiner keeps: pairs of raw features in, unit query vectors out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from combiner_service.errors import CombinerError, TextWeightNotTakenError
from combiner_service.features import Float32, Float64, check_pairs, check_text_weight


@dataclass(frozen=True, slots=True)
class CombinerInfo:
    """What a caller may know of a combiner without running it.

    `dimension` 0 and an empty `model_fingerprint` mean any; `problem` is empty where it can be used.
    """

    name: str
    description: str
    takes_text_weight: bool
    dimension: int = 0
    model_fingerprint: str = ""
    problem: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Combined:
    """Query vectors, (n, d) float32 with rows of length 1, and the weight of each text, (n,) float32."""

    query_vectors: Float32
    text_weights: Float32


@dataclass(frozen=True, slots=True)
class Pairs:
    """What one call wants combined; see `Combiner.combine`."""

    image_features: Float32
    text_features: Float32
    text_weight: float | None = None


class Combiner(ABC):
    """A function of pairs. Each row of the answer depends on the same row of the input alone."""

    def __init__(self, info: CombinerInfo) -> None:
        self.info = info

    def combine(
        self, image_features: Float32, text_features: Float32, text_weight: float | None = None
    ) -> Combined:
        """Combine row by row.

        Args:
            image_features: (n, d) float32, raw (not normalised) image features, n >= 1.
            text_features: (n, d) float32, raw text features of the same model.
            text_weight: weight of the text from 0 (image only) to 1 (text only), in place of the
                combiner's own; None lets the combiner decide.

        Raises:
            InvalidFeaturesError, WrongDimensionError, NotFiniteError: see `features.check_pairs`;
                NotFiniteError also where a query vector would have no direction.
            TextWeightOutOfRangeError, TextWeightNotTakenError: a weight outside [0, 1], or any weight where
                `info.takes_text_weight` is false.
        """
        self._check(Pairs(image_features, text_features, text_weight))
        return self._combine(image_features, text_features, text_weight)

    def combine_all(self, calls: Sequence[Pairs]) -> list[Combined | CombinerError]:
        """`combine` for several calls at once; what it would raise takes the place of that call's answer."""
        return [self._outcome(call) for call in calls]

    def _outcome(self, call: Pairs) -> Combined | CombinerError:
        try:
            return self.combine(call.image_features, call.text_features, call.text_weight)
        except CombinerError as error:
            return error

    def _check(self, call: Pairs) -> None:
        """Refuse what `combine` refuses before its work."""
        text_weight = call.text_weight
        check_text_weight(text_weight)
        if text_weight is not None and not self.info.takes_text_weight:
            raise TextWeightNotTakenError(
                f"the combiner {self.info.name} has a fixed text weight; leave text_weight out, "
                "or use sum or slerp",
                field="text_weight",
            )
        check_pairs(call.image_features, call.text_features, dimension=self.info.dimension)

    @abstractmethod
    def _combine(
        self, image_features: Float32, text_features: Float32, text_weight: float | None
    ) -> Combined:
        """Do the work of `combine`, on input that was checked."""


def constant_weight(vectors: Float64, text_weight: float) -> Combined:
    """The answer of a combiner that gives every text the same weight. `vectors`: (n, d), unit rows."""
    return Combined(vectors.astype(np.float32), np.full(len(vectors), text_weight, dtype=np.float32))
