"""Answers that are bounded in bytes as well as in count: whatever is stored, an answer can be sent.

A page of items, of a listing or of a search, ends before the item with which it would exceed its bytes,
though it always holds one; its token leads to that item, so nothing is lost. Facets leave their rarest values
out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from cir.common.v1 import errors_pb2 as errors
from cir.search.v1 import catalog_pb2 as pb
from search_service.convert import item_message, value_message
from search_service.settings import SearchSettings
from service_runtime.errors import ServiceError
from vector_store.types import FacetValue, FieldType, Item, VersionSpec

# Tag and length of an entry in a list, at most.
_ENTRY_BYTES = 16
# What else an answer holds: explanation, timings, token, tags.
_REST_BYTES = 64 * 1024


_M = TypeVar("_M", bound=Message)


def page_bytes(settings: SearchSettings) -> int:
    """Return the bytes of the items in one answer: half of what a message may have, where that is less."""
    return min(settings.max_page_bytes, settings.max_message_bytes // 2)


class ItemsMessage:
    """Messages of a page's items, until their bytes are used up."""

    def __init__(self, spec: VersionSpec, limit_bytes: int) -> None:
        self.items: list[pb.Item] = []
        self._spec = spec
        self._left = limit_bytes

    def take(self, item: Item) -> bool:
        """Add an item, unless it is too large for what is left of the page; the first one always fits."""
        message = item_message(item, self._spec)
        self._left -= message.ByteSize() + _ENTRY_BYTES
        if self.items and self._left < 0:
            return False
        self.items.append(message)
        return True


def fitting(messages: Iterable[_M], limit_bytes: int) -> list[_M]:
    """Return the first of the messages, as many as the bytes allow and at least one."""
    taken: list[_M] = []
    for message in messages:
        limit_bytes -= message.ByteSize() + _ENTRY_BYTES
        if taken and limit_bytes < 0:
            break
        taken.append(message)
    return taken


def check_fits(items: Sequence[pb.Item], settings: SearchSettings) -> None:
    """Check that items which were asked for one by one fit into one message.

    Raises:
        ServiceError: TOO_MANY_ITEMS.
    """
    limit = settings.max_message_bytes - _REST_BYTES
    if len(items) > 1 and (size := sum(item.ByteSize() + _ENTRY_BYTES for item in items)) > limit:
        raise ServiceError(
            errors.TOO_MANY_ITEMS,
            f"the {len(items)} items have {size} bytes, an answer at most {limit}; ask for fewer at once",
            field="item_ids",
        )


def facet_message(
    field: str, values: Iterable[FacetValue], kind: FieldType | None, limit_bytes: int
) -> pb.Facet:
    """Return the commonest values of a field, as many as the bytes allow; the rarest are left out."""
    counts = (pb.FacetCount(value=value_message(entry.value, kind), count=entry.count) for entry in values)
    return pb.Facet(field=field, values=fitting(counts, limit_bytes))
