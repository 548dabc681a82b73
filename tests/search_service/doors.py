"""A search service over an open store, and a check that what it holds passes through every door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import pytest

import cir
from cir.models import Item, Version
from cir.payload import GeoPoint, Scalar, Value
from cir_cli.output import value_text
from cir_cli.parse import parse_filters
from search_service.application import SearchApplication
from search_service.settings import SearchSettings
from service_runtime.server import serving
from tests.vector_store.local_qdrant import open_local_qdrant
from vector_store import VectorStore
from vector_store.copy import copy_version
from vector_store.snapshot import restore_snapshot, write_snapshot
from web_demo.backend import SearchBackend
from web_demo.benchmark_queries import BenchmarkQueries
from web_demo.media import Uploads
from web_demo.state import State
from web_demo.view import build_page

MATCHED = ("keyword", "integer", "bool")
ORDERED = ("integer", "float", "datetime")


@asynccontextmanager
async def service(store: VectorStore, *, max_page_bytes: int = 8 << 20) -> AsyncIterator[cir.AsyncClient]:
    """A client of a search service over an open store, which stays open."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search_service.application.open_store", lambda *_, **__: store)
        patch.setattr(store, "close", _stay_open)
        wanted = SearchSettings(
            port=0,
            embedder="localhost:1",
            combiner="localhost:1",
            store="edge:///unused",
            max_page_bytes=max_page_bytes,
        )
        async with (
            serving(SearchApplication(wanted), wanted) as address,
            cir.AsyncClient(address, timeout=60) as client,
        ):
            yield client


async def _stay_open() -> None:
    return None


async def published(client: cir.AsyncClient, catalog: str) -> Version:
    """The version that is searched."""
    version = (await client.catalog(catalog)).published
    assert version is not None
    return version


async def listed(client: cir.AsyncClient, catalog: str, *, page_size: int = 0) -> dict[str, Item]:
    """Every item by id; each is listed once."""
    items = [item async for item in client.all_items(catalog, page_size=page_size)]
    assert len({item.id for item in items}) == len(items)
    return {item.id: item for item in items}


def same(one: Item, other: Item) -> bool:
    """Whether two readings of an item agree."""
    return (one.id, one.payload, one.image) == (other.id, other.payload, other.image)


def elements(value: Value | None) -> list[Scalar]:
    """The single values of a field."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]  # type: ignore[list-item]


def holding(items: Mapping[str, Item], field: str, wanted: Scalar) -> set[str]:
    """Ids of the items whose field has a value, compared as Python does."""
    return {i for i, item in items.items() if wanted in elements(item.payload.get(field))}


async def check_reading(
    client: cir.AsyncClient, catalog: str, folder: Path, *, with_facets: bool = True
) -> dict[str, Item]:
    """Read all items by every door that shows them; returns them by id. Facets count what is listed."""
    version = await published(client, catalog)
    items = await listed(client, catalog)
    assert list(await listed(client, catalog, page_size=3)) == list(items)
    for item in items.values():
        got = await client.item(catalog, item.id)
        assert same(got, item), (got, item)
    together = await client.items(catalog, [*items, "nobody"])
    assert [item.id for item in together.found] == list(items)
    assert all(same(item, items[item.id]) for item in together.found)
    assert together.missing == ("nobody",)
    for item_id in items:
        answer = await client.search(
            catalog, item=item_id, page_size=200, exclude_references=False, exact=True
        )
        assert {result.id for result in answer} == set(items)
        for result in answer:
            assert (result.payload, result.image) == (items[result.id].payload, items[result.id].image)
    countable = [name for name, kind in version.schema.items() if with_facets and kind in MATCHED]
    for start in range(0, len(countable), 16):
        facets = await client.facets(catalog, countable[start : start + 16], limit=1000)
        for field, counts in facets.items():
            for count in counts:
                assert isinstance(count.value, (str, int))
                assert count.count == len(holding(items, field, count.value))
                found = await listed_where(client, catalog, {field: count.value})
                assert len(found) == count.count
    backend = SearchBackend(
        client,
        Uploads(folder, max_pixels=1, max_files=1, max_total_bytes=1, lifetime_seconds=1),
        BenchmarkQueries(),
        page_size=24,
    )
    build_page(await backend.load(State(catalog)))
    for item_id in items:
        build_page(await backend.load(State(catalog).refer(item=item_id)))
    return items


async def listed_where(client: cir.AsyncClient, catalog: str, where: cir.filters.Where) -> set[str]:
    """Ids of the items that pass a filter, in a listing and in a search alike."""
    found = {item.id async for item in client.all_items(catalog, where=where)}
    dimension = (await published(client, catalog)).dimension
    answer = await client.search(catalog, features=[1.0] * dimension, where=where, page_size=200, exact=True)
    assert {result.id for result in answer} == found
    return found


async def check_filters(client: cir.AsyncClient, catalog: str, items: Mapping[str, Item]) -> None:
    """Find each value by filter, as the client and as the command line write it."""
    schema = (await published(client, catalog)).schema
    for item in items.values():
        assert await listed_where(client, catalog, cir.filters.HasId([item.id])) == {item.id}
        for field, kind in schema.items():
            for value in elements(item.payload.get(field)):
                if kind in (*MATCHED, *ORDERED):
                    expected = holding(items, field, value)
                    assert item.id in expected
                    assert await listed_where(client, catalog, {field: value}) == expected
                    if kind in ORDERED or kind == "bool":
                        where = parse_filters([f"{field}={value_text(value)}"], schema)
                        assert await listed_where(client, catalog, where) == expected
                if kind in ORDERED:
                    above = {
                        i
                        for i, other in items.items()
                        if any(each > value for each in elements(other.payload.get(field)))  # type: ignore[operator]
                    }
                    bound = value_text(value) if isinstance(value, datetime) else value
                    assert await listed_where(client, catalog, {field: {"gt": bound}}) == above
                    assert await listed_where(client, catalog, {field: [value]}) == expected
                if isinstance(value, GeoPoint) and abs(value.latitude) < 89:
                    near = cir.filters.GeoRadius(field, value, 1000.0)
                    assert item.id in await listed_where(client, catalog, near)
            if item.payload.get(field) not in (None, []) and not _is_empty_text(item.payload.get(field)):
                exists = {field: {"exists": True}}
                assert item.id in await listed_where(client, catalog, exists)


def _is_empty_text(value: object) -> bool:
    return value == "" or value == [""]


async def check_updating(client: cir.AsyncClient, catalog: str, items: Mapping[str, Item]) -> None:
    """Write each item back as it was read: whole, then field by field."""
    whole = [cir.ItemUpdate(item.id, item.payload, item.image) for item in items.values()]
    assert (await client.update(catalog, whole)).errors == ()
    for item in items.values():
        if fields := list(item.payload):
            changed = await client.update(catalog, [cir.ItemUpdate(item.id, item.payload)], fields=fields)
            assert changed.errors == ()
    after = await listed(client, catalog)
    assert after.keys() == items.keys()
    assert all(same(after[item_id], item) for item_id, item in items.items())


async def check_copying(store: VectorStore, catalog: str, items: Mapping[str, Item], folder: Path) -> None:
    """Copy the catalog into another store, and restore a snapshot there: both have the same items."""
    await write_snapshot(store, catalog, folder)
    async with open_local_qdrant() as other:
        for info in (await copy_version(store, other, catalog), await restore_snapshot(other, folder)):
            await other.publish(catalog, info.version)
            async with service(other) as copied:
                after = await listed(copied, catalog)
            assert after.keys() == items.keys()
            assert all(same(after[item_id], item) for item_id, item in items.items())


async def check_deleting(client: cir.AsyncClient, catalog: str, items: Mapping[str, Item]) -> None:
    """Delete the items one by one."""
    deleted = await asyncio.gather(*(client.delete(catalog, [item_id]) for item_id in items))
    assert deleted == [1] * len(items)
    assert not await listed(client, catalog)


async def check_every_door(
    client: cir.AsyncClient, store: VectorStore, catalog: str, folder: Path
) -> dict[str, Item]:
    """Pass all that a catalog holds through every door; the catalog is empty afterwards."""
    items = await check_reading(client, catalog, folder)
    await check_filters(client, catalog, items)
    await check_updating(client, catalog, items)
    await check_copying(store, catalog, items, folder / "snapshot")
    await check_deleting(client, catalog, items)
    return items
