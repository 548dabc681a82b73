"""Answers that are bounded in bytes as well as in count: whatever is stored, an answer can be sent.

A page of items, of a listing or of a search, ends before the item with which it would exceed its bytes,
though it always holds one; its token leads to that item, so nothing is lost. Facets leave their rarest values
out. Each value of a payload counts as some bytes more than it has, because it takes its time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import takewhile

from cir.common.v1 import errors_pb2 as errors
from cir.fields import FieldType
from cir.limits import payload_values
from cir.search.v1 import catalog_pb2 as pb
from cir.search.v1 import search_pb2 as pb_search
from search_service.convert import item_message, value_message
from search_service.settings import SearchSettings
from service_runtime.errors import ServiceError
from vector_store.types import FacetValue, Item, ScoredItem, VersionSpec

# Tag and length of an entry in a list, at most.
_ENTRY_BYTES = 16
# A value takes as long as this many bytes of text.
_VALUE_BYTES = 256
# What else an answer holds: explanation, timings, token, tags.
_REST_BYTES = 64 * 1024


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
        self._left -= payload_values(item.payload) * _VALUE_BYTES
        if self.items and self._left < 0:
            return False
        message = item_message(item, self._spec)
        self._left -= message.ByteSize() + _ENTRY_BYTES
        if self.items and self._left < 0:
            return False
        self.items.append(message)
        return True


def result_messages(
    hits: Iterable[ScoredItem],
    spec: VersionSpec,
    limit_bytes: int,
    *,
    first_rank: int,
    explain: Callable[[Item], pb_search.ResultExplanation] | None = None,
    with_features: bool = True,
) -> list[pb_search.SearchResult]:
    """Return the first of the hits, as many as the bytes allow and at least one.

    Without `with_features` their features, which `explain` may need, are left out.
    """
    page = ItemsMessage(spec, limit_bytes)

    def fits(hit: ScoredItem) -> bool:
        return page.take(hit.item if with_features else replace(hit.item, features=None))

    return [
        pb_search.SearchResult(
            item=page.items[-1],
            score=hit.score,
            rank=rank,
            explanation=explain(hit.item) if explain else None,
        )
        for rank, hit in enumerate(takewhile(fits, hits), start=first_rank)
    ]


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
    facet = pb.Facet(field=field)
    for entry in values:
        count = pb.FacetCount(value=value_message(entry.value, kind), count=entry.count)
        limit_bytes -= count.ByteSize() + _ENTRY_BYTES
        if facet.values and limit_bytes < 0:
            break
        facet.values.append(count)
    return facet
