"""Raw features of one picture, with the identity of their model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cir.common.v1 import vectors_pb2 as pb
from cir.errors import InvalidArgument
from cir.vectors import VectorError, pack, unpack


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """float32 (d,) values, and the fingerprint of the model they come from (empty: not known)."""

    values: NDArray[np.float32]
    model_fingerprint: str = ""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.values, dtype=dtype, copy=copy)


def to_batch(features: Features | ArrayLike, *, field: str = "features") -> pb.VectorBatch:
    """One vector as it is sent. Raises `InvalidArgument` unless it has the shape (d,) or (1, d)."""
    fingerprint = features.model_fingerprint if isinstance(features, Features) else ""
    values = features.values if isinstance(features, Features) else features
    try:
        matrix = np.atleast_2d(np.asarray(values, dtype=np.float32))
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"{field} are not numbers: {error}", reason="FIELD_INVALID", field=field
        ) from error
    if matrix.ndim != 2 or matrix.shape[0] != 1 or matrix.shape[1] == 0:
        raise InvalidArgument(
            f"{field} have the shape {np.shape(values)}; expected one vector, shape (d,)",
            reason="WRONG_DIMENSION",
            field=field,
        )
    return pack(matrix, fingerprint=fingerprint)


def from_batch(batch: pb.VectorBatch) -> Features | None:
    """The vector of an answer; None where it has none. Raises `VectorError` for a damaged batch."""
    if not batch.data and not batch.rows:
        return None
    matrix = unpack(batch, finite=False)
    if len(matrix) != 1:
        raise VectorError(f"expected one vector, the answer has {len(matrix)}")
    return Features(matrix[0], batch.model_fingerprint)
