"""All items of a version, page after page."""

from __future__ import annotations

from collections.abc import AsyncIterator

from vector_store.contract import VersionItems
from vector_store.points import Item

PAGE_ITEMS = 1000


async def pages_of(items: VersionItems, *, with_features: bool = False) -> AsyncIterator[list[Item]]:
    """Pages of at least one and at most `PAGE_ITEMS` items, by ascending position in the store."""
    cursor = ""
    while True:
        page, cursor = await items.scroll(limit=PAGE_ITEMS, after=cursor, with_features=with_features)
        if page:
            yield page
        if not cursor:
            return
