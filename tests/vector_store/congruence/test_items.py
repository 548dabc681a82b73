"""Looking items up, walking through all of them, and ids of every kind."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from vector_store import VectorStore
from vector_store.errors import InvalidQuery
from vector_store.filters import Filter, HasId, MatchAny
from vector_store.points import PointBatch

from ..samples import ODD, batch, build, features, numbered, spec

ODD_IDS = ["a/b", "ä ö", "日本語", "🙂", "a'b\"c", "%2F", "null", "0", "x" * 1024, "a\nb", "../../etc"]


async def test_retrieve_gives_what_exists_in_the_order_asked(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(numbered(5), features(5)))
    async with store.reader(catalog) as reader:
        found = await reader.retrieve(["i003", "nope", "i001", "i003"], with_features=True)
        assert list(found) == ["i003", "i001"]
        stored = found["i003"].features
        assert stored is not None
        np.testing.assert_allclose(stored, features(5)[3], rtol=1e-5, atol=1e-6)
        assert (await reader.retrieve(["i001"]))["i001"].features is None
        assert await reader.retrieve([]) == {}


async def test_ids_of_every_kind(store: VectorStore, catalog: str) -> None:
    vectors = features(len(ODD_IDS))
    await build(store, catalog, batch(ODD_IDS, vectors))
    async with store.reader(catalog) as reader:
        assert list(await reader.retrieve(ODD_IDS)) == ODD_IDS
        for row, item_id in enumerate(ODD_IDS):
            assert (await reader.query(vectors[row], limit=1))[0].item.id == item_id
            assert await reader.count(Filter(must=(HasId((item_id,)),))) == 1
        assert await reader.delete(ODD_IDS[:3]) == 3
        assert await reader.count() == len(ODD_IDS) - 3


async def test_scroll_sees_every_item_once(store: VectorStore, catalog: str) -> None:
    payloads = [{"colour": "red" if row % 2 else "blue"} for row in range(25)]
    await build(store, catalog, batch(numbered(25), features(25), payloads))
    async with store.reader(catalog) as reader:
        for where, expected in (
            (None, numbered(25)),
            (Filter(must=(MatchAny("colour", ("red",)),)), numbered(25)[1::2]),
        ):
            seen: list[str] = []
            cursor = ""
            while True:
                items, cursor = await reader.scroll(limit=4, after=cursor, where=where)
                seen += [item.id for item in items]
                if not cursor:
                    break
            assert sorted(seen) == expected
            again, _ = await reader.scroll(limit=100, where=where)
            assert [item.id for item in again] == seen
        items, _ = await reader.scroll(limit=1, with_features=True)
        assert items[0].features is not None
        for bad in ("x", "v0001", "1"):
            with pytest.raises(InvalidQuery, match="not a cursor"):
                await reader.scroll(limit=1, after=bad)
        with pytest.raises(InvalidQuery):
            await reader.scroll(limit=0)
        # A cursor whose item was deleted meanwhile still works.
        assert await reader.scroll(limit=1, after=str(uuid.UUID(int=2**128 - 1))) == ([], "")


BAD_BATCHES = [
    (batch([""], features(1)), "item id ''"),
    (batch(["x" * 1025], features(1)), "expected 1 to 1024"),
    (batch(["\ud800"], features(1)), "item id"),
    (batch(["a"], features(1, dimension=7)), r"\(n, 8\)"),
    (batch(["a", "b"], np.array([[1] * 8, [np.nan] * 8], np.float32)), "item 'b'"),
    (batch(["a", "b"], np.array([[1] * 8, [0] * 8], np.float32)), "'b': a zero vector"),
    (batch(["a"], payloads=[{"size": "large"}]), "item 'a': field 'size' has type integer"),
    (batch(["a"], payloads=[{"size": [1, 2.5]}]), "field 'size' has type integer"),
    (batch(["a"], payloads=[{"sale": 1}]), "field 'sale' has type bool"),
    (batch(["a"], payloads=[{"price": float("nan")}]), "field 'price' has type float"),
    (batch(["a"], payloads=[{"added": "yesterday"}]), "RFC 3339"),
    (batch(["a"], payloads=[{"added": "2024-13-01"}]), "RFC 3339"),
    (batch(["a"], payloads=[{"shop": {"lat": 91, "lon": 0}}]), "'shop' has type geo"),
    (batch(["a"], payloads=[{"other": float("inf")}]), "finite numbers"),
    (batch(["a"], payloads=[{"other": 2**64}]), "64 bits"),
    (batch(["a"], payloads=[{"": 1}]), "payload field name"),
    (PointBatch(["a"], features(1), [{}], ["\ud800"]), "image location"),
]


async def test_nothing_of_a_bad_batch_is_written(store: VectorStore, catalog: str) -> None:
    writer = await store.create_version(catalog, spec())
    for points, message in BAD_BATCHES:
        with pytest.raises(InvalidQuery, match=message):
            await writer.upsert(points)
    await writer.upsert(batch(["good"]))
    assert (await writer.finish()).points == 1


async def test_the_last_of_equal_ids_wins(store: VectorStore, catalog: str) -> None:
    points = batch(["a", "b", "a"], features(3), [{ODD: "first"}, {}, {ODD: "last"}])
    info = await build(store, catalog, points)
    assert info.points == 2
    async with store.reader(catalog) as reader:
        assert (await reader.retrieve(["a"]))["a"].payload == {ODD: "last"}
        assert (await reader.query(features(3)[2], limit=1))[0].item.id == "a"
