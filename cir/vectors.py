"""Batches of vectors on the wire: one packed little-endian matrix with type, dimension and fingerprint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cir.common.v1 import vectors_pb2 as pb
from cir.errors import InvalidArgument

_DTYPES = {pb.VECTOR_TYPE_UNSPECIFIED: "<f4", pb.VECTOR_TYPE_FLOAT32: "<f4", pb.VECTOR_TYPE_FLOAT16: "<f2"}
_FLOAT16_MAX = 65504.0


class VectorError(ValueError):
    """A `VectorBatch` that cannot be read; the message says what was expected."""


class DimensionError(VectorError):
    """Vectors of another length than expected."""


class NotFiniteError(VectorError):
    """A vector with NaN or infinity; the message names the row."""


def pack(
    vectors: NDArray[np.float32], *, fingerprint: str = "", encoding: pb.VectorEncoding | None = None
) -> pb.VectorBatch:
    """Write float32 (n, d) vectors as the encoding asks: packed FLOAT32 unless it says otherwise."""
    dimension = vectors.shape[1]
    batch = pb.VectorBatch(dimension=dimension, model_fingerprint=fingerprint)
    if encoding is not None and encoding.plain_floats:
        batch.rows.extend(pb.FloatVector(values=row) for row in vectors.tolist())
        return batch
    dtype = encoding.dtype if encoding is not None and encoding.dtype else pb.VECTOR_TYPE_FLOAT32
    if dtype not in _DTYPES:
        raise VectorError(
            f"encoding.dtype {int(dtype)} is not known; use VECTOR_TYPE_FLOAT32 or VECTOR_TYPE_FLOAT16"
        )
    batch.dtype = dtype
    if dtype == pb.VECTOR_TYPE_FLOAT16:
        vectors = np.clip(vectors, -_FLOAT16_MAX, _FLOAT16_MAX)
    batch.data = np.ascontiguousarray(vectors, dtype=_DTYPES[dtype]).tobytes()
    return batch


def unpack(batch: pb.VectorBatch, *, dimension: int = 0, finite: bool = True) -> NDArray[np.float32]:
    """Read float32 (n, d) vectors; the result may be read-only and share the message's memory.

    `dimension` 0 takes the batch's own.

    Raises:
        DimensionError: vectors of another length.
        NotFiniteError: NaN or infinity, unless `finite` is False.
        VectorError: any other damage.
    """
    matrix = _from_rows(batch) if batch.rows else _from_data(batch)
    if dimension and matrix.shape[1] != dimension:
        raise DimensionError(f"the vectors have {matrix.shape[1]} values, the model has {dimension}")
    if finite:
        bad = ~np.isfinite(matrix).all(axis=1)
        if bad.any():
            raise NotFiniteError(f"vector {int(bad.argmax())} has a value that is NaN or infinite")
    return matrix


class NoDirectionError(VectorError):
    """A vector of zeros, which has no direction; `row` is its index."""

    def __init__(self, row: int) -> None:
        super().__init__(f"vector {row}: a zero vector has no direction")
        self.row = row


def split_lengths(rows: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the rows of (n, d) scaled to length 1, and their lengths (n,). Rows of zeros stay as they are.

    Lengths are float64, so that the squares of large or tiny values neither overflow nor vanish.
    """
    wide = rows.astype(np.float64)
    lengths: NDArray[np.float64] = np.linalg.norm(wide, axis=1)
    divisors = np.where(lengths > 0, lengths, 1.0)
    return (wide / divisors[:, np.newaxis]).astype(np.float32), lengths


def normalize(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Return the rows of (n, d), or one vector (d,), scaled to length 1.

    Raises:
        NoDirectionError: a row holds zeros alone.
    """
    scaled, lengths = split_lengths(np.atleast_2d(rows))
    if not lengths.all():
        raise NoDirectionError(int(np.flatnonzero(lengths == 0)[0]))
    return scaled.reshape(rows.shape)


def _from_rows(batch: pb.VectorBatch) -> NDArray[np.float32]:
    if batch.data:
        raise VectorError("a vector batch has either `data` or `rows`, not both")
    lengths = {len(row.values) for row in batch.rows}
    if len(lengths) != 1 or 0 in lengths:
        raise DimensionError(f"the rows of a vector batch differ in length or are empty: {sorted(lengths)}")
    length = lengths.pop()
    if batch.dimension and batch.dimension != length:
        raise DimensionError(f"the rows have {length} values, `dimension` says {batch.dimension}")
    return np.array([row.values for row in batch.rows], dtype=np.float32)


def _from_data(batch: pb.VectorBatch) -> NDArray[np.float32]:
    if not batch.data:
        raise VectorError("a vector batch needs `data` or `rows`")
    if not batch.dimension:
        raise DimensionError("a packed vector batch needs `dimension`")
    if batch.dtype not in _DTYPES:
        raise VectorError(
            f"dtype {int(batch.dtype)} is not known; use VECTOR_TYPE_FLOAT32 or VECTOR_TYPE_FLOAT16"
        )
    dtype = np.dtype(_DTYPES[batch.dtype])
    row_bytes = dtype.itemsize * batch.dimension
    if len(batch.data) % row_bytes:
        raise DimensionError(
            f"`data` has {len(batch.data)} bytes, not a multiple of the {row_bytes} bytes "
            f"of a vector of {batch.dimension} values"
        )
    matrix = np.frombuffer(batch.data, dtype=dtype).reshape(-1, batch.dimension)
    return matrix.astype(np.float32, copy=False)


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """float32 (d,) values, and the fingerprint of the model they come from (empty: not known)."""

    values: NDArray[np.float32]
    model_fingerprint: str = ""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.values, dtype=dtype, copy=copy)


def to_batch(features: Features | ArrayLike, *, field: str = "features") -> pb.VectorBatch:
    """One vector as it is sent.

    Raises:
        InvalidArgument: it has another shape than (d,) or (1, d).
    """
    matrix = _matrix(features, field)
    if matrix.ndim != 2 or matrix.shape[0] != 1 or matrix.shape[1] == 0:
        raise _wrong_shape(matrix, field, "one vector, shape (d,)")
    fingerprint = features.model_fingerprint if isinstance(features, Features) else ""
    return pack(matrix, fingerprint=fingerprint)


def rows_of(values: ArrayLike, *, field: str, fingerprint: str = "") -> pb.VectorBatch:
    """Vectors (n, d), or one of shape (d,), as they are sent.

    Raises:
        InvalidArgument: no numbers, or another shape.
    """
    matrix = _matrix(values, field)
    if matrix.ndim != 2 or not matrix.size:
        raise _wrong_shape(matrix, field, "vectors of one length, shape (n, d)")
    return pack(matrix, fingerprint=fingerprint)


def _matrix(values: Any, field: str) -> NDArray[np.float32]:
    try:
        return np.atleast_2d(np.asarray(values, dtype=np.float32))
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"{field} are not numbers: {error}", reason="FIELD_INVALID", field=field
        ) from error


def _wrong_shape(matrix: NDArray[Any], field: str, expected: str) -> InvalidArgument:
    return InvalidArgument(
        f"{field} have the shape {matrix.shape}; expected {expected}", reason="WRONG_DIMENSION", field=field
    )


def from_batch(batch: pb.VectorBatch) -> Features | None:
    """The vector of an answer; None where it has none.

    Raises:
        VectorError: a damaged batch.
    """
    if not batch.data and not batch.rows:
        return None
    matrix = unpack(batch, finite=False)
    if len(matrix) != 1:
        raise VectorError(f"expected one vector, the answer has {len(matrix)}")
    return Features(matrix[0], batch.model_fingerprint)
