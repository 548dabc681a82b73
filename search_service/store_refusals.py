"""What a store refuses, as gRPC refusals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cir.common.v1 import errors_pb2 as pb
from service_runtime.errors import ServiceError
from vector_store import errors as store

_REASONS: tuple[tuple[type[store.StoreError], pb.ErrorReason.ValueType], ...] = (
    (store.CatalogNotFound, pb.CATALOG_NOT_FOUND),
    (store.VersionNotFound, pb.VERSION_NOT_FOUND),
    (store.VersionConflict, pb.VERSION_STATE),
    (store.FingerprintMismatch, pb.FINGERPRINT_MISMATCH),
    (store.StoreUnavailable, pb.STORE_UNAVAILABLE),
)


@contextmanager
def store_refusals(*, field: str = "") -> Iterator[None]:
    """Turn the store's exceptions into `ServiceError`; `field` is the request's field at fault."""
    try:
        yield
    except store.UnknownField as error:
        raise ServiceError(pb.UNKNOWN_FIELD, str(error), field=field or error.field) from error
    except store.WrongFieldType as error:
        raise ServiceError(pb.WRONG_FIELD_TYPE, str(error), field=field or error.field) from error
    except store.InvalidQuery as error:
        raise ServiceError(pb.FIELD_INVALID, str(error), field=field or error.field) from error
    except store.StoreError as error:
        for kind, reason in _REASONS:
            if isinstance(error, kind):
                retry_after = 1.0 if reason == pb.STORE_UNAVAILABLE else None
                raise ServiceError(reason, str(error), field=field, retry_after=retry_after) from error
        raise ServiceError(pb.STORE_UNAVAILABLE, str(error), retry_after=1.0) from error
