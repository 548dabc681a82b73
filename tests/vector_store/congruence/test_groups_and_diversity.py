"""Thinning results by a field and re-ordering them by variety."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from vector_store import VectorStore
from vector_store.contract import SearchOptions

from ..reference import ranking
from ..samples import batch, build, features, numbered, spec

QUERY = features(1, seed=8)[0]


async def test_groups_keep_the_best_of_each_value(store: VectorStore, catalog: str) -> None:
    payloads = [{"colour": f"c{row % 7}"} if row % 9 else {} for row in range(100)]
    points = batch(numbered(100), features(100), payloads)
    await build(store, catalog, points)
    taken: Counter[str] = Counter()
    expected = []
    for item_id, _ in ranking(points, QUERY, None):
        colour = payloads[int(item_id[1:])].get("colour")
        if colour is None or taken[colour] < 2:
            taken.update([colour] if colour else [])
            expected.append(item_id)
    options = SearchOptions(group_by="colour", group_size=2)
    async with store.reader(catalog) as reader:
        found = [s.item.id for s in await reader.query(QUERY, limit=100, options=options)]
        assert found == expected
        second = await reader.query(QUERY, limit=5, offset=5, options=options)
        assert [s.item.id for s in second] == expected[5:10]


async def test_groups_look_beyond_one_large_group(store: VectorStore, catalog: str) -> None:
    vectors = np.concatenate([np.repeat(QUERY[np.newaxis], 600, axis=0), features(3)])
    payloads: list[dict[str, Any]] = [{"size": 1}] * 600 + [{"size": 2}, {"size": [1, 3]}, {"size": 4}]
    points = batch(numbered(603), vectors, payloads)
    await build(store, catalog, points)
    async with store.reader(catalog) as reader:
        found = await reader.query(QUERY, limit=10, options=SearchOptions(group_by="size"))
        assert {s.item.id for s in found} == {"i000", "i600", "i602"}


async def test_diversity_spreads_over_clusters(store: VectorStore, catalog: str) -> None:
    directions = np.eye(8, dtype=np.float32)[:3] + 0.6
    noise = features(30, seed=2) * 0.0005
    vectors = (np.repeat(directions, 10, axis=0) + noise).astype(np.float32)
    await build(store, catalog, batch(numbered(30), vectors), spec())
    query = (directions[0] * 1.3 + directions[1] + directions[2]).astype(np.float32)
    async with store.reader(catalog) as reader:
        plain = [s.item.id for s in await reader.query(query, limit=3)]
        spread = await reader.query(query, limit=3, options=SearchOptions(diversity=0.7))
        pages = [
            s.item.id
            for offset in range(0, 30, 10)
            for s in await reader.query(query, limit=10, offset=offset, options=SearchOptions(diversity=0.7))
        ]
        grouped = await reader.query(query, limit=3, options=SearchOptions(diversity=0.7, group_by="size"))
    assert {int(item_id[1:]) // 10 for item_id in plain} == {0}
    assert {int(s.item.id[1:]) // 10 for s in spread} == {0, 1, 2}
    assert spread[0].item.id == plain[0]
    assert all(s.item.features is None for s in spread)
    assert sorted(pages) == numbered(30)
    assert pages[:3] == [s.item.id for s in spread] == [s.item.id for s in grouped]


async def test_full_diversity_and_none(store: VectorStore, catalog: str) -> None:
    points = batch(numbered(50), features(50))
    await build(store, catalog, points)
    async with store.reader(catalog) as reader:
        none = await reader.query(QUERY, limit=50, options=SearchOptions(diversity=0.0))
        full = await reader.query(QUERY, limit=50, options=SearchOptions(diversity=1.0))
    assert [s.item.id for s in none] == [item_id for item_id, _ in ranking(points, QUERY, None)]
    assert full[0].item.id == none[0].item.id
    assert sorted(s.item.id for s in full) == numbered(50)
