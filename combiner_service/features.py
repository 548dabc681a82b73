"""Checks on pairs of feature batches, and the normalisation of what comes out. Pure, numpy alone."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from combiner_service.errors import (
    InvalidFeaturesError,
    NotFiniteError,
    TextWeightOutOfRangeError,
    WrongDimensionError,
)

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


def check_pairs(image_features: Float32, text_features: Float32, *, dimension: int = 0) -> None:
    """Refuse two batches that cannot be combined row by row.

    Args:
        image_features: (n, d) raw image features.
        text_features: (n, d) raw text features.
        dimension: the d that the combiner takes; 0 for any.

    Raises:
        InvalidFeaturesError: not matrices, no rows, or another number of rows in each.
        WrongDimensionError: another d in each, or a d that is not `dimension`.
        NotFiniteError: a row with NaN or infinity, or of length zero.
    """
    for field, batch in (("image_features", image_features), ("text_features", text_features)):
        if batch.ndim != 2 or batch.shape[0] == 0 or batch.shape[1] == 0:
            raise InvalidFeaturesError(
                f"{field} has the shape {batch.shape}; send a matrix with at least one row and one column",
                field=field,
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
    for field, batch in (("image_features", image_features), ("text_features", text_features)):
        _check_rows(field, batch)


def check_text_weight(text_weight: float | None) -> None:
    """Refuse a text weight outside [0, 1] (TextWeightOutOfRangeError); None means the combiner's own."""
    if text_weight is not None and not (math.isfinite(text_weight) and 0.0 <= text_weight <= 1.0):
        raise TextWeightOutOfRangeError(
            f"text_weight is {text_weight}; send a number from 0 (image only) to 1 (text only), "
            "or leave it out to let the combiner decide",
            field="text_weight",
        )


def unit_rows(vectors: Float64 | Float32) -> Float64:
    """Rows scaled to length 1. (n, d) float -> (n, d) float64.

    Worked in float64, where the square of any float32 is finite and, unless the value is zero, not zero.
    Raises NotFiniteError with the row's index for a row that has no direction.
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


def _check_rows(field: str, batch: Float32) -> None:
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
