"""Names and page tokens that clients keep: of a version that is gone they are refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from cir.search.v1 import catalog_pb2 as pb
from cir.search.v1 import search_pb2
from cir.vectors import pack
from tests.refused import refused
from tests.search_service.either_engine import Service, running_service
from tests.search_service.neighbours import FINGERPRINT, features_of
from tests.vector_store.engines import ENGINES

pytestmark = pytest.mark.service

SHOP = "catalogs/shop"


@pytest.fixture(params=ENGINES)
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Service]:
    """A service without catalogs on each engine."""
    async with running_service(request.param, tmp_path) as running:
        yield running


def _items(prefix: str) -> list[pb.ItemWrite]:
    ids = [f"{prefix}{number}" for number in range(6)]
    return [
        pb.ItemWrite(
            item=pb.Item(id=each, features=pack(features_of(each)[None, :], fingerprint=FINGERPRINT))
        )
        for each in ids
    ]


async def _create(service: Service, prefix: str) -> None:
    await service.catalogs.CreateCatalog(pb.CreateCatalogRequest(catalog_id="shop"))
    await service.catalogs.BatchUpsertItems(pb.BatchUpsertItemsRequest(parent=SHOP, items=_items(prefix)))


def _search(**options: Any) -> search_pb2.SearchRequest:
    turn = search_pb2.Turn(text="a red dress")
    return search_pb2.SearchRequest(parent=SHOP, turns=[turn], page_size=2, **options)


async def test_a_token_is_of_the_version_that_it_came_from(service: Service) -> None:
    await _create(service, "old")
    ranking = (await service.search.Search(_search())).next_page_token
    listing = (
        await service.catalogs.ListItems(pb.ListItemsRequest(parent=SHOP, page_size=2))
    ).next_page_token
    assert ranking
    assert listing

    async def go_on() -> list[str]:
        found = await service.search.Search(_search(page_token=ranking))
        request = pb.ListItemsRequest(parent=SHOP, page_size=2, page_token=listing)
        listed = await service.catalogs.ListItems(request)
        return [result.item.id for result in found.results] + [item.id for item in listed.items]

    assert all(item_id.startswith("old") for item_id in await go_on())
    await service.catalogs.DeleteCatalog(pb.DeleteCatalogRequest(name=SHOP))
    await _create(service, "new")
    for call in (
        service.search.Search(_search(page_token=ranking)),
        service.catalogs.ListItems(pb.ListItemsRequest(parent=SHOP, page_size=2, page_token=listing)),
    ):
        refusal = await refused(call)
        assert (refusal.reason, refusal.field) == ("PAGE_TOKEN_INVALID", "page_token")


async def test_a_token_of_another_store_is_refused_though_the_version_has_the_same_name(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as both:
        old, new = [
            await both.enter_async_context(running_service("local", tmp_path / name)) for name in "ab"
        ]
        await _create(old, "old")
        await _create(new, "new")
        first = await old.search.Search(_search())
        assert (await new.search.Search(_search())).explanation.version == first.explanation.version
        refusal = await refused(new.search.Search(_search(page_token=first.next_page_token)))
        assert (refusal.reason, refusal.field) == ("PAGE_TOKEN_INVALID", "page_token")
        request = pb.ListItemsRequest(parent=SHOP, page_size=2)
        request.page_token = (await old.catalogs.ListItems(request)).next_page_token
        refusal = await refused(new.catalogs.ListItems(request))
        assert (refusal.reason, refusal.field) == ("PAGE_TOKEN_INVALID", "page_token")


async def test_a_version_that_is_gone_is_not_found_under_its_name(service: Service) -> None:
    await _create(service, "old")
    aborted = (await service.catalogs.CreateCatalogVersion(_new_version())).name
    await service.catalogs.AbortCatalogVersion(pb.AbortCatalogVersionRequest(name=aborted))
    started = (await service.catalogs.CreateCatalogVersion(_new_version())).name
    assert started != aborted
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: _import(service, aborted),
        lambda: service.catalogs.FinishCatalogVersion(pb.FinishCatalogVersionRequest(name=aborted)),
        lambda: service.catalogs.AbortCatalogVersion(pb.AbortCatalogVersionRequest(name=aborted)),
        lambda: service.catalogs.PublishCatalogVersion(pb.PublishCatalogVersionRequest(name=aborted)),
        lambda: service.catalogs.DeleteCatalogVersion(pb.DeleteCatalogVersionRequest(name=aborted)),
        lambda: service.search.Search(_search(pinned_version=aborted)),
    ]
    for call in calls:
        assert (await refused(call())).reason == "VERSION_NOT_FOUND"
    finished = await service.catalogs.FinishCatalogVersion(
        pb.FinishCatalogVersionRequest(name=started, expected_item_count=0)
    )
    assert finished.item_count == 0


async def test_lists_go_on_behind_what_was_listed_last(service: Service) -> None:
    for name in ("b", "d", "f"):
        await service.catalogs.CreateCatalog(pb.CreateCatalogRequest(catalog_id=name))
    first = await service.catalogs.ListCatalogs(pb.ListCatalogsRequest(page_size=2))
    assert [each.name for each in first.catalogs] == ["catalogs/b", "catalogs/d"]
    await service.catalogs.CreateCatalog(pb.CreateCatalogRequest(catalog_id="a"))
    await service.catalogs.DeleteCatalog(pb.DeleteCatalogRequest(name="catalogs/d"))
    following = pb.ListCatalogsRequest(page_size=2, page_token=first.next_page_token)
    assert [each.name for each in (await service.catalogs.ListCatalogs(following)).catalogs] == ["catalogs/f"]

    for _ in range(3):
        await service.catalogs.CreateCatalogVersion(pb.CreateCatalogVersionRequest(parent="catalogs/b"))
    request = pb.ListCatalogVersionsRequest(parent="catalogs/b", page_size=2)
    page = await service.catalogs.ListCatalogVersions(request)
    assert [each.name[-5:] for each in page.versions] == ["v0004", "v0003"]
    await service.catalogs.CreateCatalogVersion(pb.CreateCatalogVersionRequest(parent="catalogs/b"))
    request.page_token = page.next_page_token
    page = await service.catalogs.ListCatalogVersions(request)
    assert [each.name[-5:] for each in page.versions] == ["v0002", "v0001"]
    assert not page.next_page_token


def _new_version() -> pb.CreateCatalogVersionRequest:
    return pb.CreateCatalogVersionRequest(parent=SHOP)


async def _import(service: Service, version: str) -> None:
    call = service.catalogs.ImportItems()
    await call.write(pb.ImportItemsRequest(parent=version, token="late", items=_items("late")))
    await call.done_writing()
    async for _ in call:
        pass
