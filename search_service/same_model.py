"""Vectors of two models are never mixed. Pure."""

from __future__ import annotations

from cir.common.v1 import errors_pb2 as errors
from service_runtime.errors import ServiceError


def check_same_model(actual: str, *, expected: str, source: str) -> None:
    """Raise `ServiceError` (FINGERPRINT_MISMATCH) when `source` answered with another model's vectors.

    It was told which model is expected, so this finds a neighbour that does not look. Vectors that name no
    model pass.
    """
    if actual and actual != expected:
        raise ServiceError(
            errors.FINGERPRINT_MISMATCH,
            f"{source} answered with vectors of model {actual[:200]}, the catalog's come from model "
            f"{expected}; let it serve the catalog's model, or index again with its own",
            metadata={"expected": expected, "actual": actual},
        )
