"""Lists of items and ids in requests: never empty, never too long."""

from __future__ import annotations

from collections.abc import Sequence

from cir.common.v1 import errors_pb2 as errors
from search_service.names import check_item_id
from service_runtime.errors import ServiceError

MAX_IDS = 1000


def read_item_ids(ids: Sequence[str]) -> list[str]:
    """Item ids of a request, each once, in their order. Raises `ServiceError`."""
    check_count(len(ids), MAX_IDS, "item_ids")
    for index, item_id in enumerate(ids):
        check_item_id(item_id, field=f"item_ids[{index}]")
    return list(dict.fromkeys(ids))


def check_count(count: int, limit: int, field: str) -> None:
    """Raise `ServiceError` (FIELD_REQUIRED, TOO_MANY_ITEMS) unless there are 1 to `limit`."""
    if not count:
        raise ServiceError(errors.FIELD_REQUIRED, f"{field} is empty; give at least one", field=field)
    if count > limit:
        raise ServiceError(
            errors.TOO_MANY_ITEMS, f"{count} {field}; at most {limit} are taken in one call", field=field
        )
