"""Changing single items of the published version."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from vector_store import VectorStore
from vector_store.contract import CatalogReader
from vector_store.errors import InvalidQuery
from vector_store.filters import Filter, MatchAny
from vector_store.points import PayloadBatch

from ..samples import batch, build, features, numbered, spec


async def test_upserts_and_deletes_are_visible_at_once(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(numbered(10), features(10)), spec())
    new = features(2, seed=4)
    async with store.reader(catalog) as reader:
        await reader.upsert(batch(["new", "i000"], new, [{"colour": "red"}, {"colour": "blue"}]))
        assert (await reader.query(new[0], limit=1))[0].item.id == "new"
        assert (await reader.query(new[1], limit=1))[0].item.id == "i000"
        assert await reader.count(Filter(must=(MatchAny("colour", ("red", "blue")),))) == 2
        assert await reader.count() == 11
        assert await reader.delete(["new", "new", "unknown"]) == 1
        assert await reader.retrieve(["new"]) == {}
        assert await reader.delete([]) == 0
        assert await reader.delete(["unknown"]) == 0
        with pytest.raises(InvalidQuery):
            await reader.upsert(batch(["bad"], payloads=[{"size": "x"}]))
        await reader.upsert(batch([]))
        await reader.upsert(batch(["late"]))
    assert [info.points for info in await store.list_versions(catalog)] == [11]
    async with store.reader(catalog) as reader:
        assert reader.info.points == 11


async def test_items_without_an_index_are_counted(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(numbered(10), features(10)))
    async with store.reader(catalog) as reader:
        assert await reader.unindexed() == 10
        await reader.upsert(batch(["new"]))
        assert await reader.unindexed() == 11


CHANGES: dict[str, Callable[[CatalogReader], Awaitable[object]]] = {
    "upsert": lambda reader: reader.upsert(batch(["i001"])),
    "payload": lambda reader: reader.set_payloads(PayloadBatch(["i001"], [{}])),
    "delete": lambda reader: reader.delete(["i002"]),
    "delete_where": lambda reader: reader.delete_where(Filter(must=(MatchAny("colour", ("red",)),))),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_version_and_an_item_say_that_they_were_changed(
    store: VectorStore, catalog: str, change: str
) -> None:
    payloads = [{"colour": colour} for colour in ("blue", "blue", "red")]
    await build(store, catalog, batch(numbered(3), payloads=payloads))
    async with store.reader(catalog) as reader:
        # Nothing is changed by what finds nothing.
        await reader.delete(["unknown"])
        await reader.set_payloads(PayloadBatch(["unknown"], [{}]))
        await reader.upsert(batch([]))
        assert [info.changed_online for info in await store.list_versions(catalog)] == [False]
        for _ in range(2):
            await CHANGES[change](reader)
            assert [info.changed_online for info in await store.list_versions(catalog)] == [True]
        # Its vector is another one now; a payload that was changed leaves it as it was.
        items = await reader.retrieve(["i000", "i001"])
        assert {item_id: item.online for item_id, item in items.items()} == {
            "i000": False,
            "i001": change == "upsert",
        }
        await reader.set_payloads(PayloadBatch(["i001"], [{}]))
        assert (await reader.retrieve(["i001"]))["i001"].online == (change == "upsert")
    await build(store, catalog, batch(numbered(3)))
    assert [info.changed_online for info in await store.list_versions(catalog)] == [True, False]


async def test_changes_belong_to_one_version(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(["a"]))
    await build(store, catalog, batch(["a"]))
    async with store.reader(catalog) as reader:
        await reader.upsert(batch(["b"]))
    await store.rollback(catalog)
    async with store.reader(catalog) as reader:
        assert await reader.count() == 1


async def test_queries_beside_changes(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(numbered(20), features(20)))
    async with store.reader(catalog) as reader:

        async def change(start: int) -> None:
            for number in range(start, start + 5):
                await reader.upsert(batch([f"n{number}"]))

        async def search() -> None:
            for vector in features(10):
                assert len(await reader.query(vector, limit=5)) == 5

        await asyncio.gather(change(0), search(), change(5), search())
        assert await reader.count() == 30
    assert (await store.list_versions(catalog))[0].points == 30
