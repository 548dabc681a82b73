"""Changes of a version that is being searched, and switches of versions under load, on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.vector_store.samples import batch, build, features, numbered, spec
from vector_store import VectorStore
from vector_store.base import CatalogVersion
from vector_store.errors import InvalidQueryError
from vector_store.filters import Filter, MatchAny
from vector_store.types import PayloadBatch

pytestmark = pytest.mark.service


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
        with pytest.raises(InvalidQueryError):
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


CHANGES: dict[str, Callable[[CatalogVersion], Awaitable[object]]] = {
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


SWITCHES = 50


@pytest.mark.slow
async def test_no_query_fails_and_each_is_of_one_version(store: VectorStore, catalog: str) -> None:
    vectors = features(20)
    for colour in ("red", "blue"):
        await build(store, catalog, batch(numbered(20), vectors, [{"colour": colour}] * 20))
    colours = {"v0001": "red", "v0002": "blue"}
    stopped = asyncio.Event()
    answered: list[str] = []

    async def search(seed: int) -> None:
        number = seed
        while not stopped.is_set():
            async with store.reader(catalog) as reader:
                expected = colours[reader.info.version]
                found = await reader.query(vectors[number % 20], limit=20)
                assert len(found) == 20
                assert {scored.item.payload["colour"] for scored in found} == {expected}
                item = await reader.retrieve(["i003"])
                assert item["i003"].payload["colour"] == expected
                answered.append(reader.info.version)
            number += 1
            await asyncio.sleep(0)

    searches = [asyncio.create_task(search(seed)) for seed in range(2)]
    for _ in range(SWITCHES // 2):
        assert (await store.rollback(catalog)).version == "v0001"
        await asyncio.sleep(0.005)
        assert (await store.publish(catalog, "v0002")).version == "v0002"
        await asyncio.sleep(0.005)
    stopped.set()
    await asyncio.gather(*searches)
    assert set(answered) == set(colours)
