"""Counting items by value."""

from __future__ import annotations

from typing import Any

import pytest

from vector_store import VectorStore
from vector_store.errors import InvalidQuery
from vector_store.filters import Filter, MatchAny, Range
from vector_store.points import FacetValue

from ..samples import ODD, batch, build, features, numbered, spec

PAYLOADS: list[dict[str, Any]] = [
    {
        "colour": ["red", "blue"] if row % 5 == 0 else "green" if row % 2 else "blue",
        "size": row % 4,
        "sale": row % 3 == 0,
        ODD: f"v{row:02d}",
    }
    for row in range(40)
]


async def test_counts_are_exact_and_ordered(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch([*numbered(40), "bare"], features(41), [*PAYLOADS, {}]))
    async with store.reader(catalog) as reader:
        assert await reader.facet("colour", limit=10) == [
            FacetValue("blue", 24),
            FacetValue("green", 16),
            FacetValue("red", 8),
        ]
        assert await reader.facet("sale", limit=10) == [FacetValue(False, 26), FacetValue(True, 14)]
        assert [type(f.value) for f in await reader.facet("sale", limit=10)] == [bool, bool]
        assert await reader.facet("size", limit=2) == [FacetValue(0, 10), FacetValue(1, 10)]
        assert await reader.facet(ODD, limit=3) == [FacetValue(f"v{row:02d}", 1) for row in range(3)]
        where = Filter(must=(Range("size", gte=2),), must_not=(MatchAny("sale", (True,)),))
        expected = sum(p["size"] >= 2 and not p["sale"] and p["colour"] == "green" for p in PAYLOADS)
        assert FacetValue("green", expected) in await reader.facet("colour", limit=10, where=where)


@pytest.mark.parametrize(
    ("field", "limit", "culprit"),
    [("price", 5, "price"), ("title", 5, "title"), ("nope", 5, "nope"), ("colour", 0, "limit")],
)
async def test_fields_that_cannot_be_counted(
    store: VectorStore, catalog: str, field: str, limit: int, culprit: str
) -> None:
    await build(store, catalog, batch(numbered(2)), spec())
    async with store.reader(catalog) as reader:
        with pytest.raises(InvalidQuery) as caught:
            await reader.facet(field, limit=limit)
        assert caught.value.field == culprit
