"""Which catalogs a call may name: those that its API key is for."""

from __future__ import annotations

from cir.common.v1 import errors_pb2 as errors
from service_runtime.auth import current_key
from service_runtime.errors import ServiceError


def may_use(catalog: str) -> bool:
    """Whether the call being served may use a catalog; every call may where no keys are used."""
    key = current_key()
    return key is None or key.is_for(catalog)


def check_may_use(catalog: str, *, field: str) -> None:
    """Raise `ServiceError` (CATALOG_NOT_ALLOWED) unless the call may use the catalog.

    Says the same whether the catalog exists or not: another tenant's names are nobody else's business.
    """
    key = current_key()
    if key is not None and not key.is_for(catalog):
        raise ServiceError(
            errors.CATALOG_NOT_ALLOWED,
            f"{field}: the API key {key.name} is not for catalog {catalog!r}; use a key whose entry has it",
            field=field,
        )
