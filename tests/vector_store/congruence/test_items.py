"""Items on every engine: written, read, and changed by payload and by filter."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest

from tests.vector_store.reference import passes
from tests.vector_store.samples import ODD, batch, build, features, numbered, spec
from vector_store import VectorStore
from vector_store.base import VersionItems
from vector_store.errors import InvalidQueryError
from vector_store.filters import Exists, Filter, GeoRadius, HasId, MatchAny, MatchText, Range
from vector_store.types import PayloadBatch, PointBatch

pytestmark = pytest.mark.service

ODD_IDS = [
    "a/b",
    "ä ö",
    "日本語",
    "🙂",
    "a'b\"c",
    "%2F",
    "null",
    "0",
    "x" * 2048,
    "羽绒\u3000红.jpg",
    "a\u00a0b",
    "../../etc",
]


async def test_retrieve_gives_what_exists_in_the_order_asked(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(numbered(5), features(5)))
    async with store.open_version(catalog) as pinned:
        found = await pinned.retrieve(["i003", "nope", "i001", "i003"], with_features=True)
        assert list(found) == ["i003", "i001"]
        stored = found["i003"].features
        assert stored is not None
        np.testing.assert_allclose(stored, features(5)[3], rtol=1e-5, atol=1e-6)
        assert (await pinned.retrieve(["i001"]))["i001"].features is None
        assert await pinned.retrieve([]) == {}


async def test_ids_of_every_kind(store: VectorStore, catalog: str) -> None:
    vectors = features(len(ODD_IDS))
    await build(store, catalog, batch(ODD_IDS, vectors))
    async with store.open_version(catalog) as pinned:
        assert list(await pinned.retrieve(ODD_IDS)) == ODD_IDS
        for row, item_id in enumerate(ODD_IDS):
            assert (await pinned.query(vectors[row], limit=1))[0].item.id == item_id
            assert await pinned.count(Filter(must=(HasId((item_id,)),))) == 1
        assert await pinned.delete(ODD_IDS[:3]) == 3
        assert await pinned.count() == len(ODD_IDS) - 3


async def test_scroll_sees_every_item_once(store: VectorStore, catalog: str) -> None:
    payloads = [{"colour": "red" if row % 2 else "blue"} for row in range(25)]
    await build(store, catalog, batch(numbered(25), features(25), payloads))
    async with store.open_version(catalog) as pinned:
        for where, expected in (
            (None, numbered(25)),
            (Filter(must=(MatchAny("colour", ("red",)),)), numbered(25)[1::2]),
        ):
            seen: list[str] = []
            cursor = ""
            while True:
                items, cursor = await pinned.scroll(limit=4, after=cursor, where=where)
                seen += [item.id for item in items]
                if not cursor:
                    break
            assert sorted(seen) == expected
            again, _ = await pinned.scroll(limit=100, where=where)
            assert [item.id for item in again] == seen
        items, _ = await pinned.scroll(limit=1, with_features=True)
        assert items[0].features is not None
        for bad in ("x", "v0001", "1"):
            with pytest.raises(InvalidQueryError, match="not a cursor"):
                await pinned.scroll(limit=1, after=bad)
        with pytest.raises(InvalidQueryError):
            await pinned.scroll(limit=0)
        # A cursor whose item was deleted meanwhile still works.
        assert await pinned.scroll(limit=1, after=str(uuid.UUID(int=2**128 - 1))) == ([], "")


BAD_BATCHES = [
    (batch([""], features(1)), "item id ''"),
    (batch(["é" * 1025], features(1)), "1 to 2048 bytes, this one has 2050"),
    (batch(["a\nb"], features(1)), "no control characters"),
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
    (batch(["a"], payloads=[{"other": float("inf")}]), "finite number"),
    (batch(["a"], payloads=[{"other": 2**64}]), "64 bits"),
    (batch(["a"], payloads=[{"": 1}]), "payload field name"),
    (batch(["a"], payloads=[{"other": "é" * 2**19}]), "bytes as JSON, at most 1048576"),
    (PointBatch(["a"], features(1), [{}], ["\ud800"]), "image location"),
]


async def test_nothing_of_a_bad_batch_is_written(store: VectorStore, catalog: str) -> None:
    writer = await store.create_version(catalog, spec())
    for points, message in BAD_BATCHES:
        with pytest.raises(InvalidQueryError, match=message):
            await writer.upsert(points)
    await writer.upsert(batch(["good"]))
    assert (await writer.finish()).points == 1


async def test_the_last_of_equal_ids_wins(store: VectorStore, catalog: str) -> None:
    points = batch(["a", "b", "a"], features(3), [{ODD: "first"}, {}, {ODD: "last"}])
    info = await build(store, catalog, points)
    assert info.points == 2
    async with store.open_version(catalog) as pinned:
        assert (await pinned.retrieve(["a"]))["a"].payload == {ODD: "last"}
        assert (await pinned.query(features(3)[2], limit=1))[0].item.id == "a"


OLD: dict[str, Any] = {"colour": "red", "title": "Old red dress", "sale": True, "size": 1, "free": [1, 2]}
NEW: dict[str, Any] = {"colour": "blue", "title": "New blue coat", "sale": False, ODD: "x"}


async def test_a_new_payload_replaces_the_old_one_whole(store: VectorStore, catalog: str) -> None:
    vectors = features(4)
    await build(store, catalog, batch(numbered(4), vectors, [OLD] * 4), spec())
    async with store.open_version(catalog) as pinned:
        assert await pinned.set_payloads(PayloadBatch(["i001", "i002", "none"], [NEW, {}, NEW])) == 2
        assert await pinned.set_payloads(PayloadBatch(["i003"], [OLD], ["elsewhere.jpg"])) == 1
        assert await pinned.set_payloads(PayloadBatch([], [])) == 0
        found = await pinned.retrieve([*numbered(4), "none"], with_features=True)
        assert {i: found[i].payload for i in found} == dict(
            zip(numbered(4), [OLD, NEW, {}, OLD], strict=True)
        )
        assert [found[i].image for i in found] == ["i000.jpg", "i001.jpg", "i002.jpg", "elsewhere.jpg"]
        for row, item in enumerate(found.values()):
            assert item.features is not None
            np.testing.assert_allclose(item.features, vectors[row], rtol=1e-5, atol=1e-6)
        # Filters see the new values and none of the old ones.
        assert await pinned.count(Filter(must=(MatchAny("colour", ("blue",)),))) == 1
        assert await pinned.count(Filter(must=(MatchText("title", "red dress"),))) == 2
        assert await pinned.count(Filter(must=(MatchText("title", "blue"),))) == 1
        assert await pinned.count(Filter(must=(MatchAny("sale", (False,)),))) == 1
        assert await pinned.count(Filter(must=(Exists("size"),))) == 2
        assert await pinned.count() == 4
        nearest = await pinned.query(vectors[1], limit=1)
        assert (nearest[0].item.id, nearest[0].item.payload) == ("i001", NEW)


async def test_a_bad_payload_changes_nothing(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(["a", "b"], payloads=[OLD, OLD]), spec())
    async with store.open_version(catalog) as pinned:
        for change, message in (
            (PayloadBatch(["a", "b"], [NEW, {"size": "large"}]), "item 'b': field 'size' has type integer"),
            (PayloadBatch(["a", ""], [NEW, NEW]), "item id ''"),
            (PayloadBatch(["a"], [NEW], ["\ud800"]), "image location"),
        ):
            with pytest.raises(InvalidQueryError, match=message):
                await pinned.set_payloads(change)
        assert (await pinned.retrieve(["a"]))["a"].payload == OLD
    with pytest.raises(ValueError, match="differ in length"):
        PayloadBatch(["a"], [])


FILTERS = [
    Filter(must=(MatchAny("colour", ("red", "none")),)),
    Filter(must=(Range("size", gte=30),), must_not=(MatchAny("sale", (True,)),)),
    Filter(must=(MatchText("title", "number 7"),)),
    Filter(should=(HasId(("i001", "i002", "other")), GeoRadius("shop", 10, 10, 200_000))),
    Filter(must_not=(Exists("colour"),)),
]


def _payloads(count: int) -> list[dict[str, Any]]:
    return [
        {
            "size": row,
            "sale": row % 2 == 0,
            "title": f"Number {row}",
            "shop": {"lat": row, "lon": row},
            **({"colour": "red" if row % 3 else "blue"} if row % 5 else {}),
        }
        for row in range(count)
    ]


async def test_deleting_what_a_filter_finds(store: VectorStore, catalog: str) -> None:
    left = dict(zip(numbered(40), _payloads(40), strict=True))
    await build(store, catalog, batch(numbered(40), features(40), list(left.values())), spec())
    async with store.open_version(catalog) as pinned:
        for where in FILTERS:
            gone = [i for i, payload in left.items() if passes(where, i, payload)]
            assert await pinned.delete_where(where) == len(gone), where
            left = {i: payload for i, payload in left.items() if i not in gone}
            items, _ = await pinned.scroll(limit=100)
            assert {item.id for item in items} == set(left), where
            assert await pinned.delete_where(where) == 0
        with pytest.raises(InvalidQueryError, match="would delete every item"):
            await pinned.delete_where(Filter())
        with pytest.raises(InvalidQueryError, match="unknown field"):
            await pinned.delete_where(Filter(must=(Exists("nope"),)))
    assert [info.points for info in await store.list_versions(catalog)] == [len(left)]


async def _all(items: VersionItems, page: int) -> dict[str, tuple[dict[str, Any], Any]]:
    seen: dict[str, tuple[dict[str, Any], Any]] = {}
    cursor = ""
    while True:
        found, cursor = await items.scroll(limit=page, after=cursor, with_features=True)
        for item in found:
            assert item.id not in seen
            seen[item.id] = dict(item.payload), item.features
        if not cursor:
            return seen


async def test_a_writer_reads_and_changes_what_it_is_building(store: VectorStore, catalog: str) -> None:
    vectors = features(30)
    first = await store.create_version(catalog, spec())
    await first.upsert(batch(numbered(30), vectors, _payloads(30)))
    await first.close()

    writer = await store.resume_version(catalog, "v0001")
    seen = await _all(writer, page=7)
    assert sorted(seen) == numbered(30)
    for row, item_id in enumerate(numbered(30)):
        assert seen[item_id][0] == _payloads(30)[row]
        np.testing.assert_allclose(seen[item_id][1], vectors[row], rtol=1e-5, atol=1e-6)
    assert list(await writer.retrieve(["i005", "nope"])) == ["i005"]
    assert await writer.set_payloads(PayloadBatch(["i005"], [NEW])) == 1
    assert await writer.delete_where(Filter(must=(Range("size", gte=20),))) == 10
    assert await writer.count(Filter(must=(MatchAny("colour", ("blue",)),))) == 6
    assert (await writer.finish()).points == 20
    await store.publish(catalog, "v0001")
    async with store.open_version(catalog) as pinned:
        assert (await pinned.retrieve(["i005"]))["i005"].payload == NEW


async def test_pages_come_in_the_same_order_on_every_engine(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(numbered(6), features(6)))
    async with store.open_version(catalog) as pinned:
        items, _ = await pinned.scroll(limit=10)
    # The order of the ids that the items have in an engine, which depend on the item ids alone.
    assert [item.id for item in items] == ["i002", "i004", "i005", "i001", "i000", "i003"]
