"""Deleting items, by id or by filter."""

from __future__ import annotations

from cir.common.v1 import errors_pb2 as errors
from cir.search.v1 import catalog_pb2 as pb
from search_service.filter_reading import read_filter
from search_service.item_ids import read_item_ids
from search_service.store_refusals import store_refusals
from service_runtime.errors import ServiceError
from vector_store.contract import CatalogReader
from vector_store.filters import Filter


def read_deletion(request: pb.DeleteItemsRequest, *, max_conditions: int) -> list[str] | Filter:
    """What to delete: ids, or a filter that is not empty. Raises `ServiceError`."""
    if not request.HasField("filter"):
        return read_item_ids(request.item_ids)
    if request.item_ids:
        raise ServiceError(errors.FIELD_INVALID, "give either item_ids or filter, not both", field="filter")
    where = read_filter(request.filter, max_conditions=max_conditions)
    if not _narrows(where):
        raise ServiceError(
            errors.FIELD_REQUIRED,
            "filter has no condition, so every item would be deleted; name which, or delete the catalog",
            field="filter",
        )
    return where


async def delete_items(which: list[str] | Filter, reader: CatalogReader, validate_only: bool) -> int:
    """Delete them; how many existed. With `validate_only` they are counted and stay."""
    if isinstance(which, list):
        if validate_only:
            return len(await reader.retrieve(which))
        return await reader.delete(which)
    with store_refusals(field="filter"):
        return await (reader.count(which) if validate_only else reader.delete_where(which))


def _narrows(where: Filter) -> bool:
    """Whether a filter has a condition anywhere; empty ones may be nested in one that is not."""
    return any(
        _narrows(condition) if isinstance(condition, Filter) else True
        for condition in (*where.must, *where.should, *where.must_not)
    )
