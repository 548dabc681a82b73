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
    async with store.open_version(catalog) as pinned:
        await pinned.upsert(batch(["new", "i000"], new, [{"colour": "red"}, {"colour": "blue"}]))
        assert (await pinned.query(new[0], limit=1))[0].item.id == "new"
        assert (await pinned.query(new[1], limit=1))[0].item.id == "i000"
        assert await pinned.count(Filter(must=(MatchAny("colour", ("red", "blue")),))) == 2
        assert await pinned.count() == 11
        assert await pinned.delete(["new", "new", "unknown"]) == 1
        assert await pinned.retrieve(["new"]) == {}
        assert await pinned.delete([]) == 0
        assert await pinned.delete(["unknown"]) == 0
        with pytest.raises(InvalidQueryError):
            await pinned.upsert(batch(["bad"], payloads=[{"size": "x"}]))
        await pinned.upsert(batch([]))
        await pinned.upsert(batch(["late"]))
    assert [info.points for info in await store.list_versions(catalog)] == [11]
    async with store.open_version(catalog) as pinned:
        assert pinned.info.points == 11


async def test_items_that_are_deleted_meanwhile_keep_no_others_from_being_changed(
    store: VectorStore, catalog: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await build(store, catalog, batch(numbered(4), features(4)), spec())
    async with store.open_version(catalog) as pinned, store.open_version(catalog) as other:

        async def delete_first() -> None:
            await other.delete(["i000", "i002"])

        monkeypatch.setattr(pinned, "_changing", delete_first)
        await pinned.set_payloads(PayloadBatch(numbered(4), [{"colour": "red"}] * 4))
        found = await pinned.retrieve(numbered(4))
        assert {item.id: item.payload for item in found.values()} == {
            "i001": {"colour": "red"},
            "i003": {"colour": "red"},
        }


async def test_items_without_an_index_are_counted(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(numbered(10), features(10)))
    async with store.open_version(catalog) as pinned:
        assert await pinned.unindexed() == 10
        await pinned.upsert(batch(["new"]))
        assert await pinned.unindexed() == 11


CHANGES: dict[str, Callable[[CatalogVersion], Awaitable[object]]] = {
    "upsert": lambda pinned: pinned.upsert(batch(["i001"])),
    "payload": lambda pinned: pinned.set_payloads(PayloadBatch(["i001"], [{}])),
    "delete": lambda pinned: pinned.delete(["i002"]),
    "delete_where": lambda pinned: pinned.delete_where(Filter(must=(MatchAny("colour", ("red",)),))),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_version_and_an_item_say_that_they_were_changed(
    store: VectorStore, catalog: str, change: str
) -> None:
    payloads = [{"colour": colour} for colour in ("blue", "blue", "red")]
    await build(store, catalog, batch(numbered(3), payloads=payloads))
    async with store.open_version(catalog) as pinned:
        # Nothing is changed by what finds nothing.
        await pinned.delete(["unknown"])
        await pinned.set_payloads(PayloadBatch(["unknown"], [{}]))
        await pinned.upsert(batch([]))
        assert [info.changed_online for info in await store.list_versions(catalog)] == [False]
        for _ in range(2):
            await CHANGES[change](pinned)
            assert [info.changed_online for info in await store.list_versions(catalog)] == [True]
        # Its vector is another one now; a payload that was changed leaves it as it was.
        items = await pinned.retrieve(["i000", "i001"])
        assert {item_id: item.online for item_id, item in items.items()} == {
            "i000": False,
            "i001": change == "upsert",
        }
        await pinned.set_payloads(PayloadBatch(["i001"], [{}]))
        assert (await pinned.retrieve(["i001"]))["i001"].online == (change == "upsert")
    await build(store, catalog, batch(numbered(3)))
    assert [info.changed_online for info in await store.list_versions(catalog)] == [True, False]


async def test_changes_belong_to_one_version(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(["a"]))
    await build(store, catalog, batch(["a"]))
    async with store.open_version(catalog) as pinned:
        await pinned.upsert(batch(["b"]))
    await store.rollback(catalog)
    async with store.open_version(catalog) as pinned:
        assert await pinned.count() == 1


async def test_queries_beside_changes(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(numbered(20), features(20)))
    async with store.open_version(catalog) as pinned:

        async def change(start: int) -> None:
            for number in range(start, start + 5):
                await pinned.upsert(batch([f"n{number}"]))

        async def search() -> None:
            for vector in features(10):
                assert len(await pinned.query(vector, limit=5)) == 5

        await asyncio.gather(change(0), search(), change(5), search())
        assert await pinned.count() == 30
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
            async with store.open_version(catalog) as pinned:
                expected = colours[pinned.info.version]
                found = await pinned.query(vectors[number % 20], limit=20)
                assert len(found) == 20
                assert {scored.item.payload["colour"] for scored in found} == {expected}
                item = await pinned.retrieve(["i003"])
                assert item["i003"].payload["colour"] == expected
                answered.append(pinned.info.version)
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
