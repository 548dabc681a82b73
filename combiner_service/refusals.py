"""What combining refuses, as what the caller is told: one reason for each class of error."""

from __future__ import annotations

from cir.common.v1 import errors_pb2 as pb
from cir.vectors import DimensionError, VectorError
from combiner_service import errors
from combiner_service.page_token import InvalidPageSizeError, InvalidPageTokenError
from service_runtime.errors import ServiceError

_REASONS: dict[type[Exception], pb.ErrorReason.ValueType] = {
    errors.InvalidFeaturesError: pb.FIELD_INVALID,
    errors.WrongDimensionError: pb.WRONG_DIMENSION,
    errors.NotFiniteError: pb.NOT_FINITE,
    errors.TextWeightOutOfRangeError: pb.OUT_OF_RANGE,
    errors.TextWeightNotTakenError: pb.FIELD_INVALID,
    errors.CombinerNotFoundError: pb.COMBINER_NOT_FOUND,
    errors.CombinerUnusableError: pb.COMBINER_UNUSABLE,
    errors.FingerprintMismatchError: pb.FINGERPRINT_MISMATCH,
}


def refusal(error: errors.CombinerError) -> ServiceError:
    """The refusal for an error of combining."""
    return ServiceError(_REASONS[type(error)], str(error), field=error.field)


def vector_refusal(error: VectorError, field: str) -> ServiceError:
    """The refusal for a batch of vectors that cannot be read."""
    reason = pb.WRONG_DIMENSION if isinstance(error, DimensionError) else pb.FIELD_INVALID
    return ServiceError(reason, f"{field}: {error}", field=field)


def page_refusal(error: InvalidPageSizeError | InvalidPageTokenError) -> ServiceError:
    """The refusal for a page that cannot be given."""
    if isinstance(error, InvalidPageSizeError):
        return ServiceError(pb.OUT_OF_RANGE, str(error), field="page_size")
    return ServiceError(pb.PAGE_TOKEN_INVALID, str(error), field="page_token")
