"""What a catalog holds after a run."""

from __future__ import annotations

from vector_store.base import VectorStore
from vector_store.types import Item


async def stored(store: VectorStore, catalog: str = "shop") -> dict[str, Item]:
    """Every item of the published version, with its features, by id."""
    async with store.reader(catalog) as reader:
        items, cursor = await reader.scroll(limit=10_000, with_features=True)
    assert cursor == ""
    return {item.id: item for item in items}
