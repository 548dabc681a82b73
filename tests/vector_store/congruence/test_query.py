"""Nearest items: order, scores, features, paging, ties, thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vector_store import VectorStore
from vector_store.contract import SearchOptions
from vector_store.errors import InvalidQuery
from vector_store.filters import Filter, HasId, MatchAny

from ..reference import ranking
from ..samples import batch, build, features, numbered, spec


async def test_order_and_scores_agree_with_numpy(store: VectorStore, catalog: str) -> None:
    points = batch(numbered(200), features(200))
    await build(store, catalog, points)
    async with store.reader(catalog) as reader:
        for query in features(5, seed=1):
            found = await reader.query(query, limit=20)
            expected = ranking(points, query, None)[:20]
            assert [s.item.id for s in found] == [item_id for item_id, _ in expected]
            assert [s.score for s in found] == pytest.approx([score for _, score in expected], abs=1e-5)


@pytest.mark.parametrize("exact", [True, False])
async def test_features_norm_payload_and_image_come_back(
    store: VectorStore, catalog: str, exact: bool
) -> None:
    vectors = features(30)
    payloads = [{"colour": "red", "extra": {"nested": [1, 2.5, None, "x"]}, "n": row} for row in range(30)]
    await build(store, catalog, batch(numbered(30), vectors, payloads))
    async with store.reader(catalog) as reader:
        found = await reader.query(
            vectors[7], limit=1, options=SearchOptions(exact=exact, with_features=True)
        )
        item = found[0].item
        assert (item.id, item.payload, item.image) == ("i007", payloads[7], "i007.jpg")
        assert item.norm == pytest.approx(float(np.linalg.norm(vectors[7])), rel=1e-6)
        assert item.features is not None
        assert item.features.dtype == np.float32
        np.testing.assert_allclose(item.features, vectors[7], rtol=1e-5, atol=1e-6)
        assert (await reader.query(vectors[7], limit=1))[0].item.features is None


@pytest.mark.parametrize("length", [1e-30, 1e-3, 1.0, 1e30])
async def test_the_length_of_a_query_does_not_matter(store: VectorStore, catalog: str, length: float) -> None:
    await build(store, catalog, batch(numbered(10), features(10) * np.float32(length)))
    async with store.reader(catalog) as reader:
        found = await reader.query(features(1)[0] * np.float32(length), limit=3)
        assert found[0].item.id == "i000"
        assert found[0].score == pytest.approx(1.0, abs=1e-5)


async def test_pages_join_without_gap_or_repeat(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(numbered(90), features(90)))
    query = features(1, seed=3)[0]
    async with store.reader(catalog) as reader:
        whole = [s.item.id for s in await reader.query(query, limit=100)]
        pages = [
            s.item.id
            for offset in range(0, 100, 7)
            for s in await reader.query(query, limit=7, offset=offset)
        ]
        assert pages == whole
        assert sorted(whole) == numbered(90)
        assert await reader.query(query, limit=5, offset=90) == []
        assert await reader.query(query, limit=0) == []


async def test_ties_are_ordered_by_id_over_all_pages(store: VectorStore, catalog: str) -> None:
    vectors = np.repeat(features(1), 300, axis=0)
    vectors[:100] = features(1, seed=1)
    ids = [f"i{number:03d}" for number in np.random.default_rng(5).permutation(300)]
    await build(store, catalog, batch(ids, vectors))
    async with store.reader(catalog) as reader:
        pages = [
            s.item.id
            for offset in range(0, 300, 40)
            for s in await reader.query(features(1)[0], limit=40, offset=offset)
        ]
    assert pages == sorted(ids[100:]) + sorted(ids[:100])


async def test_score_threshold_cuts(store: VectorStore, catalog: str) -> None:
    points = batch(numbered(60), features(60))
    await build(store, catalog, points)
    query = features(1, seed=9)[0]
    expected = [item_id for item_id, score in ranking(points, query, None) if score >= 0.2]
    async with store.reader(catalog) as reader:
        found = await reader.query(query, limit=60, options=SearchOptions(score_threshold=0.2))
        assert [s.item.id for s in found] == expected
        nothing = await reader.query(query, limit=60, options=SearchOptions(score_threshold=1.5))
        assert nothing == []


async def test_a_filter_restricts_exactly(store: VectorStore, catalog: str) -> None:
    payloads = [{"colour": "red" if row % 3 else "blue"} for row in range(60)]
    points = batch(numbered(60), features(60), payloads)
    await build(store, catalog, points)
    where = Filter(must=(MatchAny("colour", ("blue",)),), must_not=(HasId(("i003",)),))
    query = features(1, seed=2)[0]
    async with store.reader(catalog) as reader:
        found = await reader.query(query, limit=60, where=where, options=SearchOptions(ef=16))
        assert [s.item.id for s in found] == [item_id for item_id, _ in ranking(points, query, where)]


async def test_an_empty_version_answers_with_nothing(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch([], features(0)), spec())
    async with store.reader(catalog) as reader:
        assert await reader.query(features(1)[0], limit=5) == []
        assert await reader.count() == 0
        assert await reader.scroll(limit=5) == ([], "")
        assert await reader.facet("colour", limit=5) == []
        assert await reader.retrieve(["a"]) == {}


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
    async with store.reader(catalog) as reader:
        for vector, message in BAD_VECTORS:
            with pytest.raises(InvalidQuery, match=message):
                await reader.query(vector, limit=1)
        assert len(await reader.query(features(1)[0], limit=1)) == 1


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
    async with store.reader(catalog) as reader:
        for limit, offset, options, field in BAD_NUMBERS:
            with pytest.raises(InvalidQuery) as caught:
                await reader.query(features(1)[0], limit=limit, offset=offset, options=options)
            assert caught.value.field == field
