"""Features that a request brings along: one vector of the catalog's model. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cir.common.v1 import errors_pb2 as errors
from cir.common.v1 import vectors_pb2
from cir.vectors import DimensionError, NotFiniteError, VectorError, unpack
from service_runtime.errors import ServiceError
from vector_store.catalogs import VersionSpec


def read_features(batch: vectors_pb2.VectorBatch, spec: VersionSpec, *, field: str) -> NDArray[np.float32]:
    """Raw features float32 (d,), exactly one vector.

    Raises `ServiceError`: FINGERPRINT_MISMATCH, WRONG_DIMENSION, NOT_FINITE (length zero too), FIELD_INVALID.
    """
    if batch.model_fingerprint and batch.model_fingerprint != spec.model_fingerprint:
        raise ServiceError(
            errors.FINGERPRINT_MISMATCH,
            f"{field} come from model {batch.model_fingerprint[:200]}, the catalog's vectors from model "
            f"{spec.model_fingerprint}; embed the picture with the catalog's model",
            field=field,
            metadata={"expected": spec.model_fingerprint, "actual": batch.model_fingerprint[:200]},
        )
    try:
        rows = unpack(batch, dimension=spec.dimension)
    except DimensionError as error:
        raise ServiceError(errors.WRONG_DIMENSION, f"{field}: {error}", field=field) from error
    except NotFiniteError as error:
        raise ServiceError(errors.NOT_FINITE, f"{field}: {error}", field=field) from error
    except VectorError as error:
        raise ServiceError(errors.FIELD_INVALID, f"{field}: {error}", field=field) from error
    if len(rows) != 1:
        raise ServiceError(
            errors.FIELD_INVALID, f"{field} has {len(rows)} vectors; exactly one is expected", field=field
        )
    norm = float(np.linalg.norm(rows[0].astype(np.float64)))
    if not 1e-12 < norm < 1e12:
        raise ServiceError(
            errors.NOT_FINITE, f"{field} has length {norm:g}; it has no direction", field=field
        )
    row: NDArray[np.float32] = rows[0]
    return row
