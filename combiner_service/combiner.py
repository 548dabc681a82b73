"""The contract of composers, and of combiners: features in, unit query vectors and text weights out.

A composer is a plug-in by name that says what it needs, and so where it runs. This service has those that
work on features: combiners here, inversions in inversion.py. Checks included.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from combiner_service.errors import (
    BadAnswerError,
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


def weighted(own: Combined, call: Pairs, own_weight: float = 0.5) -> Combined:
    """Move a combiner's own answer to `call` towards the image or the text, as its text weight says.

    0 is the image's direction, 1 the text's, `own_weight` the answer that the combiner gives without one.
    Between them the query walks along great circles, at an even pace: no part of the range is without effect,
    however long image and text features are. None changes nothing.
    """
    weight = call.text_weight
    if weight is None:
        return own
    given = np.full(len(own.query_vectors), weight, dtype=np.float32)
    if weight == own_weight:
        return Combined(own.query_vectors, given, own.lambdas)
    if weight > own_weight:
        end, fraction = call.text_features, (weight - own_weight) / (1 - own_weight)
    else:
        end, fraction = call.image_features, 1 - weight / own_weight
    vectors = slerp(unit_rows(own.query_vectors), unit_rows(end), fraction)
    return Combined(vectors.astype(np.float32), given, own.lambdas)


# Below this sine the part of the end that is orthogonal to the start is rounding of float32 input.
_SMALLEST_SINE = 1e-7


def unit_rows(vectors: Float64 | Float32) -> Float64:
    """Scale rows to length 1. (n, d) float -> (n, d) float64.

    Worked in float64, where the square of any float32 is finite and, unless the value is zero, not zero.

    Raises:
        NotFiniteError: A row has no direction; the message has its index.
    """
    wide, norms, bad = _norms(vectors)
    if bad.size:
        raise NotFiniteError(
            f"row {bad[0]}: image and text features cancel out, so the query vector has no direction; "
            "use another combiner"
        )
    unit: Float64 = wide / norms[:, None]
    return unit


def _norms(vectors: Float64 | Float32) -> tuple[Float64, Float64, NDArray[np.intp]]:
    """Return (n, d) rows in float64, their lengths, and which of them have no direction."""
    wide = vectors.astype(np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    return wide, norms, np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))


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


class Needs(StrEnum):
    """Needs of a composer, from which it follows where its query is made.

    With FEATURES of image and text it answers with the query vector itself. With the TEXT_TOWER it answers
    with a word embedding for the image, and the embedder makes the query.
    """

    FEATURES = "features"
    TEXT_TOWER = "text tower"


@dataclass(frozen=True, slots=True)
class CombinerInfo:
    """Description of a combiner that is there before it is loaded.

    `dimension` 0 and an empty `model_fingerprint` mean any; `problem` is empty where it can be used.
    `token_width` is the length of the word embeddings of one that needs the text tower, else 0.
    """

    name: str
    description: str
    takes_text_weight: bool
    dimension: int = 0
    model_fingerprint: str = ""
    problem: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    needs: Needs = Needs.FEATURES
    token_width: int = 0


@dataclass(frozen=True, slots=True)
class Combined:
    """Query vectors, (n, d) float32 with rows of length 1, and the weight of each text, (n,) float32.

    `lambdas`, (n,), are those of a network, NaN where they cannot mean anything; None for other combiners.
    """

    query_vectors: Float32
    text_weights: Float32
    lambdas: Float32 | None = None


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of one call; see `Combiner.combine`."""

    image_features: Float32
    text_features: Float32
    text_weight: float | None = None


class Composer(ABC):
    """A plug-in by name. `info.needs` says what it works on, and with it which subclass it is."""

    def __init__(self, info: CombinerInfo) -> None:
        self.info = info

    @abstractmethod
    def combine_all(self, calls: Sequence[Pairs]) -> Sequence[object]:
        """Return the answer to each call, or the CombinerError that refuses it, in order."""


class Combiner(Composer):
    """A function of pairs. Each row of the answer depends on the same row of the input alone.

    `own_weight` is the text weight that its answer without a weight stands for; see `weighted`.
    """

    own_weight: ClassVar[float] = 0.5

    def combine(
        self, image_features: Float32, text_features: Float32, text_weight: float | None = None
    ) -> Combined:
        """Combine row by row.

        `image_features` and `text_features` are (n, d) float32, raw (not normalised), of one model, n >= 1.
        `text_weight` moves the answer between image and text, as `weighted` says; None leaves it where the
        combiner puts it.

        Raises:
            InvalidFeaturesError, WrongDimensionError: See `check_pairs`.
            NotFiniteError: See `check_pairs`; also where a query vector would have no direction.
            TextWeightOutOfRangeError: The weight is outside [0, 1].
            TextWeightNotTakenError: Any weight, where `info.takes_text_weight` is false.
            BadAnswerError: See `checked_answer`.
        """
        call = Pairs(image_features, text_features, text_weight)
        self._check(call)
        answer = self._combine(image_features, text_features)
        own = checked_answer(answer, len(image_features), image_features.shape[1], self.info.name)
        return weighted(own, call, self.own_weight)

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
    def _combine(self, image_features: Float32, text_features: Float32) -> Combined:
        """Do the work of `combine` without a text weight, on input that was checked.

        Query vectors of another length than 1 are brought to it.
        """


# A length of 1 as float32 sums it up.
_UNIT_ERROR = 1e-4


def checked_answer(answer: object, pairs: int, dimension: int, name: str) -> Combined:
    """Return the answer of a combiner to (pairs, dimension) features, with query vectors of length 1.

    Raises:
        BadAnswerError: It is no `Combined`, has another shape, or a row without a direction.
    """
    if not isinstance(answer, Combined):
        raise BadAnswerError(f"{name} answered with a {type(answer).__name__}; expected a Combined")
    vectors, weights = np.asarray(answer.query_vectors), np.asarray(answer.text_weights)
    for field_name, values, shape in (
        ("query_vectors", vectors, (pairs, dimension)),
        ("text_weights", weights, (pairs,)),
    ):
        if values.shape != shape or values.dtype.kind != "f":
            raise BadAnswerError(
                f"{name} answered with {field_name} of shape {values.shape} and dtype {values.dtype} to "
                f"{pairs} pairs of {dimension} values; expected floats of shape {shape}"
            )
    wide, lengths, bad = _norms(vectors)
    if bad.size:
        raise BadAnswerError(
            f"{name} answered with a query vector, row {bad[0]}, of length {lengths[bad[0]]}: "
            "it has no direction"
        )
    unit = wide / lengths[:, None] if np.abs(lengths - 1).max() > _UNIT_ERROR else vectors
    return Combined(unit.astype(np.float32), weights.astype(np.float32), answer.lambdas)


def constant_weight(vectors: Float64, text_weight: float) -> Combined:
    """The answer of a combiner that gives every text the same weight. `vectors`: (n, d), unit rows."""
    return Combined(vectors.astype(np.float32), np.full(len(vectors), text_weight, dtype=np.float32))
