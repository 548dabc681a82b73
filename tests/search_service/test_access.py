"""Mutual TLS and API keys through every hop, and keys that are for some catalogs alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.descriptor import FieldDescriptor
from PIL import Image

from cir.channel import digest, metadata, new_key
from cir.client import Client
from cir.combiner.v1 import combiner_pb2_grpc
from cir.combiner.v1.combiner_pb2 import Combiner
from cir.common.v1 import errors_pb2
from cir.composers import ADAPTED_TO
from cir.embedder.v1 import embedder_pb2_grpc
from cir.errors import PermissionDenied, Unauthenticated, Unavailable
from cir.limits import DEFAULT_COMBINER
from cir.search.v1 import catalog_pb2, catalog_pb2_grpc, search_pb2, search_pb2_grpc
from cir.search.v1.search_pb2 import SearchRequest, Turn
from cir_cli.doctor import services
from cir_cli.main import run
from cir_cli.options import Access
from indexer.embed import open_embedder
from indexer.errors import EmbedderFailed
from indexer.options import IndexingOptions
from search_service.application import SearchApplication
from search_service.settings import SearchSettings
from service_runtime.server import Application, serving
from service_runtime.settings import ServiceSettings
from tests.refused import Refusal, refused
from tests.search_service.conftest import publish
from tests.search_service.neighbours import FINGERPRINT, FakeCombiner, FakeEmbedder, start
from tests.service_runtime.certificates import Authority, Pair
from vector_store import open_store

END_USER, EDITOR, SEARCH, STRANGER = (new_key() for _ in range(4))


class Neighbour(Application):
    """A stand-in behind the real runtime."""

    def __init__(self, servicer: Any, name: str, add: Any) -> None:
        self.service_names = (name,)
        self._servicer = servicer
        self._add = add

    def register(self, server: grpc.aio.Server) -> None:
        self._add(self._servicer, server)

    async def start(self) -> Mapping[str, object]:
        return {}

    async def close(self) -> None:
        pass


@dataclass
class Secured:
    """Three services that ask for client certificates and keys, and who may call them."""

    authority: Authority
    own: Pair
    embedder: str
    combiner: str
    store: str
    values: dict[str, Any]

    def search_settings(self, **changes: Any) -> SearchSettings:
        return SearchSettings(
            port=0,
            shutdown_grace_seconds=0,
            embedder=self.embedder,
            combiner=self.combiner,
            store=self.store,
            api_keys=f"user:read:{END_USER},editor:write:{EDITOR}",
            **(self.values | self.upstream() | changes),
        )

    def upstream(self) -> dict[str, Any]:
        return {
            "upstream_tls": True,
            "upstream_ca": self.authority.file,
            "upstream_certificate": self.own.certificate,
            "upstream_key": self.own.key,
            "upstream_api_key": SEARCH,
        }

    def client(self, address: str, key: str) -> Client:
        return Client(address, api_key=key, tls=self.authority.client(self.own), timeout=10)


@pytest.fixture
async def secured(tmp_path: Path) -> AsyncIterator[Secured]:
    authority = Authority(tmp_path, "ca")
    pair, own = authority.issue("server"), authority.issue("search")
    tls: dict[str, Any] = {
        "tls_certificate": pair.certificate,
        "tls_key": pair.key,
        "tls_client_ca": authority.file,
    }
    url = f"edge://{tmp_path / 'store'}"
    store = open_store(url)
    await publish(store, "shop", 20)
    await store.close()
    values = ServiceSettings(port=0, shutdown_grace_seconds=0, api_keys=f"search:read:{SEARCH}", **tls)
    neighbours = (
        Neighbour(
            FakeEmbedder(),
            "cir.embedder.v1.EmbedderService",
            embedder_pb2_grpc.add_EmbedderServiceServicer_to_server,
        ),
        Neighbour(
            FakeCombiner(),
            "cir.combiner.v1.CombinerService",
            combiner_pb2_grpc.add_CombinerServiceServicer_to_server,
        ),
    )
    async with AsyncExitStack() as stack:
        embedder, combiner = [await stack.enter_async_context(serving(one, values)) for one in neighbours]
        yield Secured(authority, own, embedder, combiner, url, tls)


def refusal(kind: type[Exception], client: Client, method: str, *arguments: Any, **fields: Any) -> Any:
    with client, pytest.raises(kind) as raised:
        getattr(client, method)(*arguments, **fields)
    return raised.value


@pytest.mark.service
async def test_a_search_goes_through_every_hop_and_scopes_hold(secured: Secured) -> None:
    settings = secured.search_settings()
    async with serving(SearchApplication(settings), settings) as address:

        def calls() -> None:
            with secured.client(address, END_USER) as client:
                answer = client.search("shop", image=b"picture 3", text="in red", page_size=5)
                assert len(answer.results) == 5
                assert answer.explanation.combiner == DEFAULT_COMBINER
                with pytest.raises(PermissionDenied, match="user has the scope read"):
                    client.delete("shop", ["item-1"])
            with secured.client(address, EDITOR) as client:
                assert client.delete("shop", ["item-1"]) == 1
            refusal(Unauthenticated, secured.client(address, STRANGER), "info")
            no_certificate = Client(address, api_key=END_USER, tls=secured.authority.client(), timeout=2)
            refusal(Unavailable, no_certificate, "info")

        await asyncio.to_thread(calls)


@pytest.mark.service
async def test_a_wrong_key_upstream_is_no_fault_of_the_caller(secured: Secured) -> None:
    settings = secured.search_settings(upstream_api_key=STRANGER)
    async with serving(SearchApplication(settings), settings) as address:
        error = await asyncio.to_thread(
            refusal, Unavailable, secured.client(address, END_USER), "search", "shop", text="in red"
        )
        assert error.reason == "EMBEDDER_UNAVAILABLE"
        assert "correct upstream_api_key in this service's settings" in error.message
        assert STRANGER not in error.message


@pytest.mark.service
@pytest.mark.slow
async def test_no_tls_upstream_is_no_fault_of_the_caller(secured: Secured) -> None:
    settings = secured.search_settings(
        upstream_tls=False, upstream_ca=None, upstream_certificate=None, upstream_key=None
    )
    async with serving(SearchApplication(settings), settings) as address:
        error = await asyncio.to_thread(
            refusal, Unavailable, secured.client(address, END_USER), "search", "shop", text="in red"
        )
        assert error.reason == "EMBEDDER_UNAVAILABLE"


@pytest.mark.service
async def test_the_indexer_meets_the_embedder_with_its_key(secured: Secured) -> None:
    tls = secured.authority.client(secured.own)
    options = IndexingOptions(embedder_tls=tls, embedder_api_key=SEARCH, connect_seconds=1, retry_seconds=1)
    assert SEARCH not in repr(options)
    async with open_embedder(secured.embedder, options) as embedder:
        assert embedder.model.fingerprint == FINGERPRINT
    wrong = replace(options, embedder_api_key=STRANGER)
    with pytest.raises(EmbedderFailed, match="UNAUTHENTICATED: the API key is not known"):
        async with open_embedder(secured.embedder, wrong):
            pass
    missing = replace(options, embedder_tls=secured.authority.client(Pair(Path("x"), Path("y"))))
    with pytest.raises(EmbedderFailed, match=r"cannot be called as the options say: .*No such file"):
        async with open_embedder(secured.embedder, missing):
            pass


@pytest.mark.service
async def test_the_doctor_sees_every_service(secured: Secured) -> None:
    settings = secured.search_settings()
    async with serving(SearchApplication(settings), settings) as address:

        def look(neighbours: Access) -> dict[str, bool | None]:
            found = services(
                address,
                embedder=secured.embedder,
                combiner=secured.combiner,
                access=Access(END_USER, secured.authority.client(secured.own)),
                neighbours=neighbours,
                timeout=5,
            )
            return {finding.name: finding.ok for finding in found}

        ours = Access(SEARCH, secured.authority.client(secured.own))
        seen = await asyncio.to_thread(look, ours)
        assert [seen[name] for name in ("embedder", "combiner", "search", "search -> embedder")] == [True] * 4
        seen = await asyncio.to_thread(look, Access(STRANGER, ours.tls))
        assert [seen[name] for name in ("embedder", "combiner", "search")] == [False, False, True]


@pytest.mark.service
async def test_a_command_takes_key_and_certificates(
    secured: Secured, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = secured.search_settings()
    async with serving(SearchApplication(settings), settings) as address:
        files = (
            f"--ca-file={secured.authority.file}",
            f"--cert-file={secured.own.certificate}",
            f"--key-file={secured.own.key}",
        )
        command = ("catalogs", "--server", address, *files)
        monkeypatch.setenv("CIR_API_KEY", END_USER)
        assert await asyncio.to_thread(run, command) == 0
        assert "shop" in capsys.readouterr().out
        monkeypatch.setenv("CIR_API_KEY", STRANGER)
        assert await asyncio.to_thread(run, command) == 1
        # The service of this test logs to the same stream.
        assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("cir:")] == [
            "cir: the API key is not known; ask the operator of this service for one; "
            "on the command line: --api-key or CIR_API_KEY"
        ]


@pytest.mark.service
async def test_cir_index_reaches_the_embedder_with_key_and_certificates(
    secured: Secured, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (8, 8), "red").save(pictures / "red.jpg")
    command = (
        *("index", "new", str(pictures), "--quiet", "--embedder", secured.embedder),
        *("--store", f"edge://{tmp_path / 'indexed'}", "--embedder-ca-file", str(secured.authority.file)),
        *("--embedder-cert-file", str(secured.own.certificate)),
        *("--embedder-key-file", str(secured.own.key)),
    )
    monkeypatch.setenv("CIR_EMBEDDER_API_KEY", STRANGER)
    assert await asyncio.to_thread(run, command) == 1
    assert "the API key is not known" in capsys.readouterr().err
    monkeypatch.setenv("CIR_EMBEDDER_API_KEY", SEARCH)
    assert await asyncio.to_thread(run, command) == 0
    assert "1 of 1 item (" in capsys.readouterr().out


def test_every_call_that_changes_data_needs_write() -> None:
    service = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"]
    reading = ("Get", "List", "BatchGet", "Facet")
    changing = {method.name for method in service.methods if not method.name.startswith(reading)}
    assert SearchApplication.write_methods == {f"/{service.full_name}/{name}" for name in changing}


ALL, ACME = new_key(), new_key()
NAMING = ("name", "parent", "catalog_id", "pinned_version")
# Calls that name no catalog: the list of the key's own, facts about the service, and several queries,
# each of which names one.
NAMELESS = {"ListCatalogs", "GetSearchInfo", "BatchSearch"}


@dataclass
class Tenants:
    """A service with catalogs of several tenants, and a key for those of one."""

    stubs: dict[str, Any]

    def call(self, service: str, method: str, request: Any, key: str = ACME) -> Any:
        if method == "ImportItems":
            return self._read(getattr(self.stubs[service], method)(iter([request]), metadata=metadata(key)))
        return getattr(self.stubs[service], method)(request, metadata=metadata(key))

    async def _read(self, call: Any) -> Any:
        return [answer async for answer in call]


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
        combiners = FakeCombiner()
        combiners.adapted = [
            Combiner(name=f"combiner/{name}", model_fingerprint=FINGERPRINT, metadata={ADAPTED_TO: name})
            for name in ("acme-hats", "zebra")
        ]
        combiner_server, combiner = await start(combiners)
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
                if (
                    name == "pinned_version"
                    or method.name == "ImportItems"
                    or ("Version" in method.name and not method.name.startswith(("List", "Create")))
                ):
                    value += "/versions/v0001"
                elif name == "catalog_id":
                    value = catalog
                elif method.name == "GetItem":
                    value += "/items/item-1"
                if name == "pinned_version":
                    request.parent = "catalogs/shop"
                    request.turns.add(text="red")
                setattr(request, name, value)
                found.append((service, method.name, name, request))
    return found


@pytest.mark.service
async def test_every_call_that_names_another_tenants_catalog_is_refused(tenants: Tenants) -> None:
    cases = naming_requests("zebra")
    assert {"Search", "BatchUpdateItems", "BatchDeleteItems", "DeleteCatalog"} <= {
        method for _, method, _, _ in cases
    }
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


@pytest.mark.service
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


@pytest.mark.service
async def test_a_batch_answers_for_the_keys_own_catalogs(tenants: Tenants) -> None:
    queries = [
        SearchRequest(parent=f"catalogs/{name}", turns=[Turn(text="red")]) for name in ("shop", "zebra")
    ]
    request = search_pb2.BatchSearchRequest(requests=queries)
    own, other = (await tenants.call("SearchService", "BatchSearch", request)).outcomes
    assert len(own.response.results) == 5
    assert errors_pb2.ErrorReason.Name(other.error.reason) == "CATALOG_NOT_ALLOWED"


@pytest.mark.service
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


@pytest.mark.service
async def test_the_keys_own_catalogs_are_served(tenants: Tenants) -> None:
    for name in ("shop", "acme-hats"):
        request = SearchRequest(parent=f"catalogs/{name}", turns=[Turn(text="red")])
        assert len((await tenants.call("SearchService", "Search", request)).results) == 5
    info = await tenants.call("SearchService", "GetSearchInfo", search_pb2.GetSearchInfoRequest())
    assert info.dependencies["store"] == "ok"
    assert dict(info.catalog_combiners) == {"acme-hats": "combiner/acme-hats"}
    assert "combiner/acme-hats" in info.combiners
    assert "zebra" not in str(info)
    whole = await tenants.call("SearchService", "GetSearchInfo", search_pb2.GetSearchInfoRequest(), ALL)
    assert whole.catalog_combiners["zebra"] in whole.combiners
