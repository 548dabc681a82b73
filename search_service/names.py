"""Resource names (AIP-122): catalogs/{catalog}, .../versions/{version}, .../items/{item}.

Every name of a request is read here, so here is where a call is held to the catalogs of its API key."""

from __future__ import annotations

from cir.common.v1 import errors_pb2 as errors
from cir.common.v1 import errors_pb2 as pb
from service_runtime.auth import current_key
from service_runtime.errors import ServiceError
from vector_store.types import check_catalog_name

MAX_ITEM_ID = 512


def catalog_name(catalog: str) -> str:
    """The resource name of a catalog."""
    return f"catalogs/{catalog}"


def version_name(catalog: str, version: str) -> str:
    """The resource name of a version."""
    return f"catalogs/{catalog}/versions/{version}"


def parse_catalog(name: str, *, field: str) -> str:
    """The catalog of "catalogs/{catalog}".

    Raises `ServiceError` (FIELD_REQUIRED, FIELD_INVALID, CATALOG_NOT_ALLOWED).
    """
    if not name:
        raise ServiceError(
            pb.FIELD_REQUIRED, f"{field} is empty; name the catalog: catalogs/NAME", field=field
        )
    prefix, _, catalog = name.partition("/")
    if prefix != "catalogs" or not catalog:
        raise _invalid(name, field, "catalogs/NAME")
    try:
        check_catalog_name(catalog)
    except ValueError as error:
        raise ServiceError(pb.FIELD_INVALID, f"{field}: {error}", field=field) from error
    check_may_use(catalog, field=field)
    return catalog


def parse_version(name: str, *, field: str) -> tuple[str, str]:
    """Catalog and version of "catalogs/{catalog}/versions/{version}"."""
    return _parse_child(name, "versions", field)


def parse_item(name: str, *, field: str) -> tuple[str, str]:
    """Catalog and item id of "catalogs/{catalog}/items/{item}"; the id may have slashes."""
    catalog, item_id = _parse_child(name, "items", field)
    check_item_id(item_id, field=field)
    return catalog, item_id


def check_item_id(item_id: str, *, field: str) -> None:
    """Raise `ServiceError` (FIELD_REQUIRED, FIELD_INVALID) unless this can be an item's id."""
    if not item_id:
        raise ServiceError(pb.FIELD_REQUIRED, f"{field} is empty; give an item id", field=field)
    if len(item_id) > MAX_ITEM_ID or not item_id.isprintable():
        raise ServiceError(
            pb.FIELD_INVALID,
            f"{field}: an item id has at most {MAX_ITEM_ID} characters and no control characters",
            field=field,
        )


def _parse_child(name: str, collection: str, field: str) -> tuple[str, str]:
    pattern = f"catalogs/NAME/{collection}/ID"
    if not name:
        raise ServiceError(pb.FIELD_REQUIRED, f"{field} is empty; expected {pattern}", field=field)
    parts = name.split("/", 3)
    if len(parts) != 4 or parts[2] != collection or not parts[3]:
        raise _invalid(name, field, pattern)
    return parse_catalog("/".join(parts[:2]), field=field), parts[3]


def _invalid(name: str, field: str, pattern: str) -> ServiceError:
    return ServiceError(
        pb.FIELD_INVALID, f"{field} {name[:200]!r} is no resource name; expected {pattern}", field=field
    )


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
