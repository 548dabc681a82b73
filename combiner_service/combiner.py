"""The contract of every combiner: features in, unit query vectors and text weights out. Checks included."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from combiner_service.errors import (
    CombinerError,
    InvalidFeaturesError,
    NotFiniteError,
    TextWeightNotTakenError,
    TextWeightOutOfRangeError,
    WrongDimensionError,
)

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


def check_pairs(image_features: Float32, text_features: Float32, *, dimension: int = 0) -> None:
    """Refuse two batches that cannot be combined row by row.

    `image_features` and `text_features` are (n, d) raw features; `dimension` is the d that the combiner
    takes, 0 for any.

    Raises:
        InvalidFeaturesError: Not matrices, no rows, or another number of rows in each.
        WrongDimensionError: Another d in each, or a d that is not `dimension`.
        NotFiniteError: A row with NaN or infinity, or of length zero.
    """
    for name, batch in (("image_features", image_features), ("text_features", text_features)):
        if batch.ndim != 2 or batch.shape[0] == 0 or batch.shape[1] == 0:
            raise InvalidFeaturesError(
                f"{name} has the shape {batch.shape}; send a matrix with at least one row and one column",
                field=name,
            )
    if len(image_features) != len(text_features):
        raise InvalidFeaturesError(
            f"{len(image_features)} image features but {len(text_features)} text features; "
            "send one text feature for each image feature",
            field="text_features",
        )
    if image_features.shape[1] != text_features.shape[1]:
        raise WrongDimensionError(
            f"image features have {image_features.shape[1]} values, text features {text_features.shape[1]}; "
            "send features of one model",
            field="text_features",
        )
    if dimension and image_features.shape[1] != dimension:
        raise WrongDimensionError(
            f"the features have {image_features.shape[1]} values, the combiner takes {dimension}; "
            "send features of the model that the combiner was trained on",
            field="image_features",
        )
    for name, batch in (("image_features", image_features), ("text_features", text_features)):
        _check_feature_rows(name, batch)


def check_text_weight(text_weight: float | None) -> None:
    """Refuse a text weight outside [0, 1] (TextWeightOutOfRangeError); None means the combiner's own."""
    if text_weight is not None and not (math.isfinite(text_weight) and 0.0 <= text_weight <= 1.0):
        raise TextWeightOutOfRangeError(
            f"text_weight is {text_weight}; send a number from 0 (image only) to 1 (text only), "
            "or leave it out to let the combiner decide",
            field="text_weight",
        )


def unit_rows(vectors: Float64 | Float32) -> Float64:
    """Scale rows to length 1. (n, d) float -> (n, d) float64.

    Worked in float64, where the square of any float32 is finite and, unless the value is zero, not zero.

    Raises:
        NotFiniteError: A row has no direction; the message has its index.
    """
    wide = vectors.astype(np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if bad.size:
        raise NotFiniteError(
            f"row {bad[0]}: image and text features cancel out, so the query vector has no direction; "
            "send another text weight or use another combiner"
        )
    unit: Float64 = wide / norms[:, None]
    return unit


def _check_feature_rows(field: str, batch: Float32) -> None:
    bad = np.flatnonzero(~np.isfinite(batch).all(axis=1))
    if bad.size:
        raise NotFiniteError(
            f"{field}, row {bad[0]}: NaN or infinity; every value must be finite", field=field
        )
    zero = np.flatnonzero(~batch.any(axis=1))
    if zero.size:
        raise NotFiniteError(
            f"{field}, row {zero[0]}: all values are zero, so the vector has no direction; "
            "leave the pair out, or search with the image or the text alone",
            field=field,
        )


@dataclass(frozen=True, slots=True)
class CombinerInfo:
    """Description of a combiner that is there before it is loaded.

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
    """Pairs of one call; see `Combiner.combine`."""

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

        `image_features` and `text_features` are (n, d) float32, raw (not normalised), of one model, n >= 1.
        `text_weight`, from 0 (image only) to 1 (text only), takes the place of the combiner's own; None lets
        the combiner decide.

        Raises:
            InvalidFeaturesError, WrongDimensionError: See `check_pairs`.
            NotFiniteError: See `check_pairs`; also where a query vector would have no direction.
            TextWeightOutOfRangeError: The weight is outside [0, 1].
            TextWeightNotTakenError: Any weight, where `info.takes_text_weight` is false.
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
                "or use one that takes it (takes_text_weight in ListCombiners)",
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
