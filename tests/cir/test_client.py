"""Both clients against a server on loopback: the same calls, blocking and awaited."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

import cir
from cir.search.v1 import catalog_pb2, search_pb2
from cir_cli.local.readiness import free_ports
from tests.cir import messages
from tests.cir.fake_search import FakeSearch, fake_search, refuse

pytestmark = pytest.mark.service


def pages_of_results(request: search_pb2.SearchRequest, _context: object) -> Message:
    """Two pages of one result each."""
    if not request.page_token:
        return messages.search_response(messages.item("first"), next_page_token="more")
    return messages.search_response(messages.item("second"))


def pages_of_items(request: catalog_pb2.ListItemsRequest, _context: object) -> Message:
    """Two pages of two items and one."""
    if not request.page_token:
        return catalog_pb2.ListItemsResponse(
            items=[messages.item("a"), messages.item("b")], next_page_token="more"
        )
    return catalog_pb2.ListItemsResponse(items=[messages.item("c")])


def pages_of_catalogs(request: catalog_pb2.ListCatalogsRequest, _context: object) -> Message:
    """Two pages of one catalog each."""
    name, token = ("b", "") if request.page_token else ("a", "more")
    return catalog_pb2.ListCatalogsResponse(catalogs=[messages.catalog(name)], next_page_token=token)


ANSWERS: dict[str, Any] = {
    "Search": pages_of_results,
    "GetSearchInfo": search_pb2.GetSearchInfoResponse(version="1"),
    "ListCatalogs": pages_of_catalogs,
    "GetCatalog": messages.catalog(),
    "ListCatalogVersions": catalog_pb2.ListCatalogVersionsResponse(versions=[messages.version()]),
    "PublishCatalogVersion": messages.catalog(),
    "RollbackCatalog": messages.catalog(),
    "DeleteCatalogVersion": catalog_pb2.DeleteCatalogVersionResponse(),
    "DeleteCatalog": catalog_pb2.DeleteCatalogResponse(),
    "GetItem": messages.item("a/b"),
    "BatchGetItems": catalog_pb2.BatchGetItemsResponse(items=[messages.item("a")], missing_ids=["b"]),
    "ListItems": pages_of_items,
    "BatchUpsertItems": catalog_pb2.BatchUpsertItemsResponse(written=1),
    "BatchUpdateItems": catalog_pb2.BatchUpdateItemsResponse(updated=1),
    "BatchDeleteItems": catalog_pb2.BatchDeleteItemsResponse(deleted=2),
    "FacetItems": catalog_pb2.FacetItemsResponse(),
}
# The method, its arguments, and a part of the request that must arrive.
CALLS: list[tuple[str, Callable[[Any], Any], dict[str, object]]] = [
    ("search", lambda client: client.search("shop", item="a"), {"parent": "catalogs/shop"}),
    ("info", lambda client: client.info(), {}),
    ("catalog", lambda client: client.catalog("shop"), {"name": "catalogs/shop"}),
    ("versions", lambda client: client.versions("shop"), {"parent": "catalogs/shop"}),
    (
        "publish",
        lambda client: client.publish("shop", "v1", allow_model_change=True),
        {"name": "catalogs/shop/versions/v1", "allow_model_change": True},
    ),
    ("rollback", lambda client: client.rollback("shop"), {"name": "catalogs/shop"}),
    (
        "delete_version",
        lambda client: client.delete_version("shop", "v1"),
        {"name": "catalogs/shop/versions/v1"},
    ),
    ("delete_catalog", lambda client: client.delete_catalog("shop"), {"name": "catalogs/shop"}),
    ("item", lambda client: client.item("shop", "a/b c"), {"name": "catalogs/shop/items/a/b c"}),
    ("items", lambda client: client.items("shop", ["a", "b"]), {"item_ids": ["a", "b"]}),
    ("list_items", lambda client: client.list_items("shop", page_size=2), {"page_size": 2}),
    ("upsert", lambda client: client.upsert("shop", [cir.ItemWrite("a", b"x")]), {"parent": "catalogs/shop"}),
    ("update", lambda client: client.update("shop", [cir.ItemUpdate("a")]), {"parent": "catalogs/shop"}),
    ("delete", lambda client: client.delete("shop", ["a", "b"]), {"item_ids": ["a", "b"]}),
    (
        "delete_where",
        lambda client: client.delete_where("shop", {"price": 3}, validate_only=True),
        {"validate_only": True},
    ),
    ("facets", lambda client: client.facets("shop", ["colour"], limit=3), {"fields": ["colour"], "limit": 3}),
]


@pytest.fixture(autouse=True)
def answers(search_service: FakeSearch) -> None:
    search_service.answers.update(ANSWERS)


@pytest.fixture
def client(search_service: FakeSearch) -> Iterator[cir.Client]:
    with cir.Client(search_service.address, timeout=10) as client:
        yield client


@pytest.mark.parametrize(("name", "call", "sent"), CALLS, ids=[name for name, _, _ in CALLS])
async def test_both_clients_send_the_same_and_read_the_same(
    client: cir.Client,
    search_service: FakeSearch,
    name: str,
    call: Callable[[Any], Any],
    sent: dict[str, object],
) -> None:
    blocking = call(client)
    async with cir.AsyncClient(search_service.address, timeout=10) as async_client:
        awaited = await call(async_client)
    first, second = search_service.requests
    assert first == second
    for field, value in sent.items():
        got = getattr(first, field)
        assert (list(got) if isinstance(value, list) else got) == value, name
    assert type(blocking) is type(awaited)
    assert repr(blocking) == repr(awaited)


def test_pages_are_fetched_as_they_are_asked_for(client: cir.Client, search_service: FakeSearch) -> None:
    pages = client.search_pages("shop", text="red")
    assert [result.id for result in next(pages)] == ["first"]
    assert len(search_service.requests) == 1
    assert [[result.id for result in page] for page in pages] == [["second"]]
    assert [request.page_token for request in search_service.requests] == ["", "more"]


def test_lists_are_gathered_over_all_pages(client: cir.Client) -> None:
    assert [catalog.name for catalog in client.catalogs()] == ["a", "b"]
    assert [item.id for item in client.all_items("shop")] == ["a", "b", "c"]
    assert client.list_items("shop").next_page_token == "more"


async def test_the_asyncio_client_pages_too(search_service: FakeSearch) -> None:
    async with cir.AsyncClient(search_service.address, timeout=10) as client:
        pages = [page async for page in client.search_pages("shop", text="red")]
        assert [[result.id for result in page] for page in pages] == [["first"], ["second"]]
        assert [catalog.name for catalog in await client.catalogs()] == ["a", "b"]
        assert [item.id async for item in client.all_items("shop")] == ["a", "b", "c"]


def test_the_api_key_travels_with_each_call(search_service: FakeSearch) -> None:
    with cir.Client(search_service.address, api_key="secret", timeout=10) as client:
        client.info()
    assert search_service.metadata[0]["x-api-key"] == "secret"
    with pytest.raises(cir.InvalidArgument, match="printable ASCII"):
        cir.Client(search_service.address, api_key="sécret")


async def test_every_call_has_a_timeout(search_service: FakeSearch) -> None:
    released = threading.Event()

    def late(_request: object, _context: object) -> Message:
        released.wait(20)
        return search_pb2.GetSearchInfoResponse()

    search_service.answers["GetSearchInfo"] = late
    try:
        with (
            cir.Client(search_service.address, timeout=0.2) as client,
            pytest.raises(cir.DeadlineExceeded, match=r"did not answer within 0\.2 s"),
        ):
            client.info()
        async with cir.AsyncClient(search_service.address) as async_client:
            with pytest.raises(cir.DeadlineExceeded, match=r"within 0\.1 s"):
                await async_client.info(timeout=0.1)
    finally:
        released.set()


async def test_a_client_that_waits_outlasts_a_service_that_is_away() -> None:
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    with cir.Client(address, timeout=20) as client, pytest.raises(cir.Unavailable):
        client.info()
    with cir.Client(address, timeout=20, wait_for_ready=True) as client:
        async with cir.AsyncClient(address, timeout=20, wait_for_ready=True) as async_client:
            answered = asyncio.gather(async_client.info(), asyncio.to_thread(client.info))
            await asyncio.sleep(0.3)
            assert not answered.done()
            with fake_search(port) as late:
                late.answers.update(ANSWERS)
                blocking, awaited = await answered
    assert repr(blocking) == repr(awaited)


async def test_the_asyncio_client_raises_the_same_errors(search_service: FakeSearch) -> None:
    search_service.answers["Search"] = refuse(
        grpc.StatusCode.NOT_FOUND, "no catalog", reason="CATALOG_NOT_FOUND", field="catalog"
    )
    async with cir.AsyncClient(search_service.address, timeout=10) as client:
        with pytest.raises(cir.NotFound, match="no catalog") as raised:
            await client.search("shop", text="x")
        assert (raised.value.reason, raised.value.field) == ("CATALOG_NOT_FOUND", "catalog")
        with pytest.raises(cir.InvalidArgument, match="cannot be read"):
            await client.search("shop", image="missing.jpg")


def test_large_messages_pass(client: cir.Client, search_service: FakeSearch) -> None:
    """Over gRPC's own limit of 4 MiB, in the answer."""
    search_service.answers["GetItem"] = messages.item("a", image="x" * 5_000_000)
    assert len(client.item("shop", "a").image) == 5_000_000
