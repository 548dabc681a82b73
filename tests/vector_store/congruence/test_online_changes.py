"""Changing single items of the published version."""

from __future__ import annotations

import asyncio

import pytest

from vector_store import VectorStore
from vector_store.errors import InvalidQuery
from vector_store.filters import Filter, MatchAny

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
