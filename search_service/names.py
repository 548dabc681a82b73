"""Resource names (AIP-122): catalogs/{catalog}, .../versions/{version}, .../items/{item}.

Every name of a request is parsed here, so here is where a call is held to the catalogs of its API key.
"""

from __future__ import annotations

from cir.common.v1 import errors_pb2 as errors
from cir.limits import item_id_problem
from service_runtime.auth import current_key
from service_runtime.errors import ServiceError
from vector_store.types import check_catalog_name


def catalog_name(catalog: str) -> str:
    """Return the resource name of a catalog."""
    return f"catalogs/{catalog}"


def version_name(catalog: str, version: str) -> str:
    """Return the resource name of a version."""
    return f"catalogs/{catalog}/versions/{version}"


def parse_catalog(name: str, *, field: str) -> str:
    """Return the catalog of "catalogs/{catalog}".

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID or CATALOG_NOT_ALLOWED.
    """
    if not name:
        raise ServiceError(
            errors.FIELD_REQUIRED, f"{field} is empty; name the catalog: catalogs/NAME", field=field
        )
    prefix, _, catalog = name.partition("/")
    if prefix != "catalogs" or not catalog:
        raise _invalid(name, field, "catalogs/NAME")
    return parse_catalog_id(catalog, field=field)


def parse_catalog_id(catalog: str, *, field: str) -> str:
    """Return {catalog} of a resource name, as it stands where a catalog is created.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID or CATALOG_NOT_ALLOWED.
    """
    if not catalog:
        raise ServiceError(errors.FIELD_REQUIRED, f"{field} is empty; name the catalog", field=field)
    try:
        check_catalog_name(catalog)
    except ValueError as error:
        raise ServiceError(errors.FIELD_INVALID, f"{field}: {error}", field=field) from error
    check_may_use(catalog, field=field)
    return catalog


def parse_version(name: str, *, field: str) -> tuple[str, str]:
    """Return catalog and version of "catalogs/{catalog}/versions/{version}"."""
    return _parse_child(name, "versions", field)


def parse_item(name: str, *, field: str) -> tuple[str, str]:
    """Return catalog and item id of "catalogs/{catalog}/items/{item}"; the id may have slashes."""
    catalog, item_id = _parse_child(name, "items", field)
    check_item_id(item_id, field=field)
    return catalog, item_id


def check_item_id(item_id: str, *, field: str) -> None:
    """Check that a text can be an item's id.

    Raises:
        ServiceError: FIELD_REQUIRED or FIELD_INVALID.
    """
    if not item_id:
        raise ServiceError(errors.FIELD_REQUIRED, f"{field} is empty; give an item id", field=field)
    problem = item_id_problem(item_id)
    if problem:
        raise ServiceError(errors.FIELD_INVALID, f"{field}: {problem}", field=field)


def _parse_child(name: str, collection: str, field: str) -> tuple[str, str]:
    pattern = f"catalogs/NAME/{collection}/ID"
    if not name:
        raise ServiceError(errors.FIELD_REQUIRED, f"{field} is empty; expected {pattern}", field=field)
    parts = name.split("/", 3)
    if len(parts) != 4 or parts[2] != collection or not parts[3]:
        raise _invalid(name, field, pattern)
    return parse_catalog("/".join(parts[:2]), field=field), parts[3]


def _invalid(name: str, field: str, pattern: str) -> ServiceError:
    return ServiceError(
        errors.FIELD_INVALID,
        f"{field} {name[:200]!r} is not a resource name; expected {pattern}",
        field=field,
    )


def may_use(catalog: str) -> bool:
    """Return whether the call being served may use a catalog; every call may where no keys are used."""
    key = current_key()
    return key is None or key.is_for(catalog)


def check_may_use(catalog: str, *, field: str) -> None:
    """Check that the call may use a catalog.

    The refusal is the same whether the catalog exists or not: names of other tenants stay theirs.

    Raises:
        ServiceError: CATALOG_NOT_ALLOWED.
    """
    key = current_key()
    if key is not None and not key.is_for(catalog):
        raise ServiceError(
            errors.CATALOG_NOT_ALLOWED,
            f"{field}: the API key {key.name} is not for catalog {catalog!r}; use a key whose entry has it",
            field=field,
        )
