"""API keys for some catalogs: every call that names a catalog is held to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.descriptor import FieldDescriptor

from cir.api_key import digest, metadata, new_key
from cir.search.v1 import catalog_pb2, catalog_pb2_grpc, search_pb2, search_pb2_grpc
from cir.search.v1.search_pb2 import SearchRequest, Turn
from search_service.application import SearchApplication
from search_service.settings import SearchSettings
from service_runtime.server import serving
from tests.refused import Refusal, refused
from tests.search_service.conftest import publish
from tests.search_service.neighbours import FakeCombiner, FakeEmbedder, start
from vector_store import open_store

ALL, ACME = new_key(), new_key()
NAMING = ("name", "parent", "catalog", "pinned_version")
# Calls that name no catalog: the list of those that the key is for, and the service's own facts.
NAMELESS = {"ListCatalogs", "GetSearchInfo"}


@dataclass
class Tenants:
    """A service with catalogs of several tenants, and a key for those of one."""

    stubs: dict[str, Any]

    def call(self, service: str, method: str, request: Any, key: str = ACME) -> Any:
        return getattr(self.stubs[service], method)(request, metadata=metadata(key))


@pytest.fixture
async def tenants(tmp_path: Path) -> AsyncIterator[Tenants]:
    url = f"edge://{tmp_path / 'store'}"
    store = open_store(url)
    for name in ("shop", "acme-shoes", "acme-hats", "zebra"):
        await publish(store, name, 5)
    await store.close()
    keys = tmp_path / "keys.toml"
    keys.write_text(
        f'[[keys]]\nname = "operator"\nscope = "write"\nsha256 = "{digest(ALL).hex()}"\n'
        f'[[keys]]\nname = "acme"\nscope = "write"\nsha256 = "{digest(ACME).hex()}"\n'
        'catalogs = ["acme-*", "shop"]\n'
    )
    async with AsyncExitStack() as cleanup:
        embedder_server, embedder = await start(FakeEmbedder())
        cleanup.push_async_callback(embedder_server.stop, None)
        combiner_server, combiner = await start(FakeCombiner())
        cleanup.push_async_callback(combiner_server.stop, None)
        settings = SearchSettings(
            port=0,
            embedder=embedder,
            combiner=combiner,
            store=url,
            api_keys_file=keys,
            rate_limit_per_second=0,
        )
        address = await cleanup.enter_async_context(serving(SearchApplication(settings), settings))
        channel = await cleanup.enter_async_context(grpc.aio.insecure_channel(address))
        yield Tenants(
            {
                "SearchService": search_pb2_grpc.SearchServiceStub(channel),
                "CatalogService": catalog_pb2_grpc.CatalogServiceStub(channel),
            }
        )


def naming_requests(catalog: str) -> list[tuple[str, str, str, Any]]:
    """Service, method, field and request for every field of every method that names a catalog."""
    found = []
    for module, service in ((search_pb2, "SearchService"), (catalog_pb2, "CatalogService")):
        for method in module.DESCRIPTOR.services_by_name[service].methods:
            names = [
                field.name
                for field in method.input_type.fields
                if field.type == FieldDescriptor.TYPE_STRING and field.name in NAMING
            ]
            if method.name in NAMELESS:
                assert names == []
                continue
            assert names, f"{method.name} names its catalog in none of {NAMING}"
            for name in names:
                request = getattr(module, method.input_type.name)()
                value = f"catalogs/{catalog}"
                if name == "pinned_version" or (
                    "Version" in method.name and not method.name.startswith("List")
                ):
                    value += "/versions/v0001"
                elif method.name == "GetItem":
                    value += "/items/item-1"
                if name == "pinned_version":
                    request.catalog = "catalogs/shop"
                    request.turns.add(text="red")
                setattr(request, name, value)
                found.append((service, method.name, name, request))
    return found


async def test_every_call_that_names_another_tenants_catalog_is_refused(tenants: Tenants) -> None:
    cases = naming_requests("zebra")
    assert {"Search", "UpdateItems", "DeleteItems", "DeleteCatalog"} <= {method for _, method, _, _ in cases}
    for service, method, field, request in cases:
        refusal = await refused(tenants.call(service, method, request))
        assert (refusal.code.name, refusal.reason, refusal.field) == (
            "PERMISSION_DENIED",
            "CATALOG_NOT_ALLOWED",
            field,
        ), method
    # Nothing happened to it.
    request = catalog_pb2.GetCatalogRequest(name="catalogs/zebra")
    zebra = await tenants.call("CatalogService", "GetCatalog", request, ALL)
    assert zebra.published.item_count == 5


async def test_a_catalog_that_exists_looks_like_one_that_does_not(tenants: Tenants) -> None:
    def told(refusal: Refusal, name: str) -> Refusal:
        return Refusal(
            refusal.code,
            refusal.reason,
            refusal.message.replace(name, "NAME"),
            refusal.field,
            refusal.retry_after,
            refusal.metadata,
        )

    for there, nowhere in zip(naming_requests("zebra"), naming_requests("tiger"), strict=True):
        first, second = [
            told(await refused(tenants.call(service, method, request)), name)
            for (service, method, _, request), name in ((there, "zebra"), (nowhere, "tiger"))
        ]
        assert first == second
    # Nor does a name of one's own that is missing tell of others.
    refusal = await refused(
        tenants.call("CatalogService", "GetCatalog", catalog_pb2.GetCatalogRequest(name="catalogs/acme-none"))
    )
    assert refusal.reason == "CATALOG_NOT_FOUND"
    assert "zebra" not in refusal.message


async def test_a_list_has_the_keys_own_catalogs(tenants: Tenants) -> None:
    async def listed(key: str, size: int) -> list[str]:
        names: list[str] = []
        request = catalog_pb2.ListCatalogsRequest(page_size=size)
        while True:
            page = await tenants.call("CatalogService", "ListCatalogs", request, key)
            names += [catalog.name.removeprefix("catalogs/") for catalog in page.catalogs]
            if not page.next_page_token:
                return names
            request.page_token = page.next_page_token

    for size in (1, 2, 100):
        assert await listed(ACME, size) == ["acme-hats", "acme-shoes", "shop"]
        assert await listed(ALL, size) == ["acme-hats", "acme-shoes", "shop", "zebra"]


async def test_the_keys_own_catalogs_are_served(tenants: Tenants) -> None:
    for name in ("shop", "acme-hats"):
        request = SearchRequest(catalog=f"catalogs/{name}", turns=[Turn(text="red")])
        assert len((await tenants.call("SearchService", "Search", request)).results) == 5
    info = await tenants.call("SearchService", "GetSearchInfo", search_pb2.GetSearchInfoRequest())
    assert info.dependencies["store"] == "ok"
    assert "zebra" not in str(info)
