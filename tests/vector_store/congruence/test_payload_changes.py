"""Changing payloads without touching vectors, and removing what a filter finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vector_store import VectorStore
from vector_store.contract import VersionItems
from vector_store.errors import InvalidQuery
from vector_store.filters import Exists, Filter, GeoRadius, HasId, MatchAny, MatchText, Range
from vector_store.points import PayloadBatch

from ..reference import passes
from ..samples import ODD, batch, build, features, numbered, spec

OLD: dict[str, Any] = {"colour": "red", "title": "Old red dress", "sale": True, "size": 1, "free": [1, 2]}
NEW: dict[str, Any] = {"colour": "blue", "title": "New blue coat", "sale": False, ODD: "x"}


async def test_a_new_payload_replaces_the_old_one_whole(store: VectorStore, catalog: str) -> None:
    vectors = features(4)
    await build(store, catalog, batch(numbered(4), vectors, [OLD] * 4), spec())
    async with store.reader(catalog) as reader:
        assert await reader.set_payloads(PayloadBatch(["i001", "i002", "none"], [NEW, {}, NEW])) == 2
        assert await reader.set_payloads(PayloadBatch(["i003"], [OLD], ["elsewhere.jpg"])) == 1
        assert await reader.set_payloads(PayloadBatch([], [])) == 0
        found = await reader.retrieve([*numbered(4), "none"], with_features=True)
        assert {i: found[i].payload for i in found} == dict(
            zip(numbered(4), [OLD, NEW, {}, OLD], strict=True)
        )
        assert [found[i].image for i in found] == ["i000.jpg", "i001.jpg", "i002.jpg", "elsewhere.jpg"]
        for row, item in enumerate(found.values()):
            assert item.features is not None
            np.testing.assert_allclose(item.features, vectors[row], rtol=1e-5, atol=1e-6)
        # Filters see the new values and none of the old ones.
        assert await reader.count(Filter(must=(MatchAny("colour", ("blue",)),))) == 1
        assert await reader.count(Filter(must=(MatchText("title", "red dress"),))) == 2
        assert await reader.count(Filter(must=(MatchText("title", "blue"),))) == 1
        assert await reader.count(Filter(must=(MatchAny("sale", (False,)),))) == 1
        assert await reader.count(Filter(must=(Exists("size"),))) == 2
        assert await reader.count() == 4
        nearest = await reader.query(vectors[1], limit=1)
        assert (nearest[0].item.id, nearest[0].item.payload) == ("i001", NEW)


async def test_a_bad_payload_changes_nothing(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(["a", "b"], payloads=[OLD, OLD]), spec())
    async with store.reader(catalog) as reader:
        for change, message in (
            (PayloadBatch(["a", "b"], [NEW, {"size": "large"}]), "item 'b': field 'size' has type integer"),
            (PayloadBatch(["a", ""], [NEW, NEW]), "item id ''"),
            (PayloadBatch(["a"], [NEW], ["\ud800"]), "image location"),
        ):
            with pytest.raises(InvalidQuery, match=message):
                await reader.set_payloads(change)
        assert (await reader.retrieve(["a"]))["a"].payload == OLD
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
    async with store.reader(catalog) as reader:
        for where in FILTERS:
            gone = [i for i, payload in left.items() if passes(where, i, payload)]
            assert await reader.delete_where(where) == len(gone), where
            left = {i: payload for i, payload in left.items() if i not in gone}
            items, _ = await reader.scroll(limit=100)
            assert {item.id for item in items} == set(left), where
            assert await reader.delete_where(where) == 0
        with pytest.raises(InvalidQuery, match="would delete every item"):
            await reader.delete_where(Filter())
        with pytest.raises(InvalidQuery, match="unknown field"):
            await reader.delete_where(Filter(must=(Exists("nope"),)))
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
    async with store.reader(catalog) as reader:
        assert (await reader.retrieve(["i005"]))["i005"].payload == NEW


async def test_pages_come_in_the_same_order_on_every_engine(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(numbered(6), features(6)))
    async with store.reader(catalog) as reader:
        items, _ = await reader.scroll(limit=10)
    # The order of the ids that the items have in an engine, which depend on the item ids alone.
    assert [item.id for item in items] == ["i002", "i004", "i005", "i001", "i000", "i003"]
