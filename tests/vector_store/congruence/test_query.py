"""Queries on every engine: order, scores and pages, groups and diversity, and counts by value."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.vector_store.reference import ranking
from tests.vector_store.samples import ODD, batch, build, features, numbered, spec
from vector_store import VectorStore
from vector_store.base import SearchOptions
from vector_store.errors import InvalidQueryError
from vector_store.filters import Filter, HasId, MatchAny, Range
from vector_store.types import FacetValue

pytestmark = pytest.mark.service


async def test_order_and_scores_agree_with_numpy(store: VectorStore, catalog: str) -> None:
    points = batch(numbered(200), features(200))
    await build(store, catalog, points)
    async with store.open_version(catalog) as pinned:
        for query in features(5, seed=1):
            found = await pinned.query(query, limit=20)
            expected = ranking(points, query, None)[:20]
            assert [s.item.id for s in found] == [item_id for item_id, _ in expected]
            assert [s.score for s in found] == pytest.approx([score for _, score in expected], abs=1e-5)


@pytest.mark.parametrize("exact", [True, False])
async def test_features_norm_payload_and_image_come_back(
    store: VectorStore, catalog: str, exact: bool
) -> None:
    vectors = features(30)
    payloads = [{"colour": "red", "extra": ["a", "x"], "n": row} for row in range(30)]
    await build(store, catalog, batch(numbered(30), vectors, payloads))
    async with store.open_version(catalog) as pinned:
        found = await pinned.query(
            vectors[7], limit=1, options=SearchOptions(exact=exact, with_features=True)
        )
        item = found[0].item
        assert (item.id, item.payload, item.image) == ("i007", payloads[7], "i007.jpg")
        assert item.norm == pytest.approx(float(np.linalg.norm(vectors[7])), rel=1e-6)
        assert item.features is not None
        assert item.features.dtype == np.float32
        np.testing.assert_allclose(item.features, vectors[7], rtol=1e-5, atol=1e-6)
        assert (await pinned.query(vectors[7], limit=1))[0].item.features is None


@pytest.mark.parametrize("length", [1e-30, 1e-3, 1.0, 1e30])
async def test_the_length_of_a_query_does_not_matter(store: VectorStore, catalog: str, length: float) -> None:
    await build(store, catalog, batch(numbered(10), features(10) * np.float32(length)))
    async with store.open_version(catalog) as pinned:
        found = await pinned.query(features(1)[0] * np.float32(length), limit=3)
        assert found[0].item.id == "i000"
        assert found[0].score == pytest.approx(1.0, abs=1e-5)


async def test_pages_join_without_gap_or_repeat(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(numbered(90), features(90)))
    query = features(1, seed=3)[0]
    async with store.open_version(catalog) as pinned:
        whole = [s.item.id for s in await pinned.query(query, limit=100)]
        pages = [
            s.item.id
            for offset in range(0, 100, 7)
            for s in await pinned.query(query, limit=7, offset=offset)
        ]
        assert pages == whole
        assert sorted(whole) == numbered(90)
        assert await pinned.query(query, limit=5, offset=90) == []
        assert await pinned.query(query, limit=0) == []


async def test_ties_are_ordered_by_id_over_all_pages(store: VectorStore, catalog: str) -> None:
    vectors = np.repeat(features(1), 300, axis=0)
    vectors[:100] = features(1, seed=1)
    ids = [f"i{number:03d}" for number in np.random.default_rng(5).permutation(300)]
    await build(store, catalog, batch(ids, vectors))
    async with store.open_version(catalog) as pinned:
        pages = [
            s.item.id
            for offset in range(0, 300, 40)
            for s in await pinned.query(features(1)[0], limit=40, offset=offset)
        ]
    assert pages == sorted(ids[100:]) + sorted(ids[:100])


async def test_score_threshold_cuts(store: VectorStore, catalog: str) -> None:
    points = batch(numbered(60), features(60))
    await build(store, catalog, points)
    query = features(1, seed=9)[0]
    expected = [item_id for item_id, score in ranking(points, query, None) if score >= 0.2]
    async with store.open_version(catalog) as pinned:
        found = await pinned.query(query, limit=60, options=SearchOptions(score_threshold=0.2))
        assert [s.item.id for s in found] == expected
        nothing = await pinned.query(query, limit=60, options=SearchOptions(score_threshold=1.5))
        assert nothing == []


async def test_a_filter_restricts_exactly(store: VectorStore, catalog: str) -> None:
    payloads = [{"colour": "red" if row % 3 else "blue"} for row in range(60)]
    points = batch(numbered(60), features(60), payloads)
    await build(store, catalog, points)
    where = Filter(must=(MatchAny("colour", ("blue",)),), must_not=(HasId(("i003",)),))
    query = features(1, seed=2)[0]
    async with store.open_version(catalog) as pinned:
        found = await pinned.query(query, limit=60, where=where, options=SearchOptions(ef=16))
        assert [s.item.id for s in found] == [item_id for item_id, _ in ranking(points, query, where)]


async def test_an_empty_version_answers_with_nothing(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch([], features(0)), spec())
    async with store.open_version(catalog) as pinned:
        assert await pinned.query(features(1)[0], limit=5) == []
        assert await pinned.count() == 0
        assert await pinned.scroll(limit=5) == ([], "")
        assert await pinned.facet("colour", limit=5) == []
        assert await pinned.retrieve(["a"]) == {}


BAD_VECTORS: list[tuple[NDArray[np.float32], str]] = [
    (np.ones(7, np.float32), r"shape \(7,\)"),
    (np.ones((1, 8), np.float32), "shape"),
    (np.full(8, np.nan, np.float32), "NaN"),
    (
        np.full(8, 0x7F800001, np.uint32).view(np.float32),
        "NaN",
    ),  # a signalling one, which warns where it is converted
    (np.full(8, np.inf, np.float32), "infinity"),
    (np.zeros(8, np.float32), "zero vector"),
]


async def test_bad_vectors(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(numbered(3)))
    async with store.open_version(catalog) as pinned:
        for vector, message in BAD_VECTORS:
            with pytest.raises(InvalidQueryError, match=message):
                await pinned.query(vector, limit=1)
        assert len(await pinned.query(features(1)[0], limit=1)) == 1


BAD_NUMBERS = [
    (-1, 0, SearchOptions(), "limit"),
    (1, -1, SearchOptions(), "offset"),
    (10_000, 1, SearchOptions(), "offset"),
    (1, 0, SearchOptions(ef=0), "ef"),
    (1, 0, SearchOptions(diversity=1.5), "diversity"),
    (1, 0, SearchOptions(diversity=float("nan")), "diversity"),
    (1, 0, SearchOptions(score_threshold=float("nan")), "score_threshold"),
    (1, 0, SearchOptions(group_by="colour", group_size=0), "group_size"),
    (1, 0, SearchOptions(group_by="price"), "price"),
    (1, 0, SearchOptions(group_by="nope"), "nope"),
]


async def test_bad_numbers(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(numbered(3)), spec())
    async with store.open_version(catalog) as pinned:
        for limit, offset, options, field in BAD_NUMBERS:
            with pytest.raises(InvalidQueryError) as caught:
                await pinned.query(features(1)[0], limit=limit, offset=offset, options=options)
            assert caught.value.field == field


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
    async with store.open_version(catalog) as pinned:
        found = [s.item.id for s in await pinned.query(QUERY, limit=100, options=options)]
        assert found == expected
        second = await pinned.query(QUERY, limit=5, offset=5, options=options)
        assert [s.item.id for s in second] == expected[5:10]


async def test_groups_look_beyond_one_large_group(store: VectorStore, catalog: str) -> None:
    vectors = np.concatenate([np.repeat(QUERY[np.newaxis], 600, axis=0), features(3)])
    payloads: list[dict[str, Any]] = [{"size": 1}] * 600 + [{"size": 2}, {"size": [1, 3]}, {"size": 4}]
    points = batch(numbered(603), vectors, payloads)
    await build(store, catalog, points)
    async with store.open_version(catalog) as pinned:
        found = await pinned.query(QUERY, limit=10, options=SearchOptions(group_by="size"))
        assert {s.item.id for s in found} == {"i000", "i600", "i602"}


async def test_diversity_spreads_over_clusters(store: VectorStore, catalog: str) -> None:
    directions = np.eye(8, dtype=np.float32)[:3] + 0.6
    noise = features(30, seed=2) * 0.0005
    vectors = (np.repeat(directions, 10, axis=0) + noise).astype(np.float32)
    await build(store, catalog, batch(numbered(30), vectors), spec())
    query = (directions[0] * 1.3 + directions[1] + directions[2]).astype(np.float32)
    async with store.open_version(catalog) as pinned:
        plain = [s.item.id for s in await pinned.query(query, limit=3)]
        spread = await pinned.query(query, limit=3, options=SearchOptions(diversity=0.7))
        pages = [
            s.item.id
            for offset in range(0, 30, 10)
            for s in await pinned.query(query, limit=10, offset=offset, options=SearchOptions(diversity=0.7))
        ]
        grouped = await pinned.query(query, limit=3, options=SearchOptions(diversity=0.7, group_by="size"))
    assert {int(item_id[1:]) // 10 for item_id in plain} == {0}
    assert {int(s.item.id[1:]) // 10 for s in spread} == {0, 1, 2}
    assert spread[0].item.id == plain[0]
    assert all(s.item.features is None for s in spread)
    assert sorted(pages) == numbered(30)
    assert pages[:3] == [s.item.id for s in spread] == [s.item.id for s in grouped]


async def test_full_diversity_and_none(store: VectorStore, catalog: str) -> None:
    points = batch(numbered(50), features(50))
    await build(store, catalog, points)
    async with store.open_version(catalog) as pinned:
        none = await pinned.query(QUERY, limit=50, options=SearchOptions(diversity=0.0))
        full = await pinned.query(QUERY, limit=50, options=SearchOptions(diversity=1.0))
    assert [s.item.id for s in none] == [item_id for item_id, _ in ranking(points, QUERY, None)]
    assert full[0].item.id == none[0].item.id
    assert sorted(s.item.id for s in full) == numbered(50)


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
    async with store.open_version(catalog) as pinned:
        assert await pinned.facet("colour", limit=10) == [
            FacetValue("blue", 24),
            FacetValue("green", 16),
            FacetValue("red", 8),
        ]
        assert await pinned.facet("sale", limit=10) == [FacetValue(False, 26), FacetValue(True, 14)]
        assert [type(f.value) for f in await pinned.facet("sale", limit=10)] == [bool, bool]
        assert await pinned.facet("size", limit=2) == [FacetValue(0, 10), FacetValue(1, 10)]
        assert await pinned.facet(ODD, limit=3) == [FacetValue(f"v{row:02d}", 1) for row in range(3)]
        where = Filter(must=(Range("size", gte=2),), must_not=(MatchAny("sale", (True,)),))
        expected = sum(p["size"] >= 2 and not p["sale"] and p["colour"] == "green" for p in PAYLOADS)
        assert FacetValue("green", expected) in await pinned.facet("colour", limit=10, where=where)


@pytest.mark.parametrize(
    ("field", "limit", "culprit"),
    [("price", 5, "price"), ("title", 5, "title"), ("nope", 5, "nope"), ("colour", 0, "limit")],
)
async def test_fields_that_cannot_be_counted(
    store: VectorStore, catalog: str, field: str, limit: int, culprit: str
) -> None:
    await build(store, catalog, batch(numbered(2)), spec())
    async with store.open_version(catalog) as pinned:
        with pytest.raises(InvalidQueryError) as caught:
            await pinned.facet(field, limit=limit)
        assert caught.value.field == culprit
