"""A search service without catalogs over an engine, with stand-ins for its neighbours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from cir.search.v1 import catalog_pb2_grpc, search_pb2_grpc
from search_service.application import SearchApplication
from search_service.settings import SearchSettings
from service_runtime.server import serving
from tests.search_service.neighbours import FakeCombiner, FakeEmbedder, start
from tests.vector_store.engines import engine
from vector_store import VectorStore


@dataclass(frozen=True)
class Service:
    """What a test talks to."""

    catalogs: catalog_pb2_grpc.CatalogServiceAsyncStub
    search: search_pb2_grpc.SearchServiceAsyncStub
    embedder: FakeEmbedder
    store: VectorStore
    address: str


async def _stay_open() -> None:
    return None


@asynccontextmanager
async def running_service(
    name: str, folder: Path, *, store_timeout_s: float = 10.0, **options: Any
) -> AsyncIterator[Service]:
    """A service over an empty store on an engine; `options` are settings."""
    async with AsyncExitStack() as cleanup:
        store = await cleanup.enter_async_context(engine(name, folder, timeout_s=store_timeout_s))
        patch = cleanup.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("search_service.application.open_store", lambda *_, **__: store)
        patch.setattr(store, "close", _stay_open)
        embedder = FakeEmbedder()
        addresses = []
        for neighbour in (embedder, FakeCombiner()):
            server, address = await start(neighbour)
            cleanup.push_async_callback(server.stop, None)
            addresses.append(address)
        settings = SearchSettings(
            port=0, embedder=addresses[0], combiner=addresses[1], store="edge:///unused", **options
        )
        address = await cleanup.enter_async_context(serving(SearchApplication(settings), settings))
        channel = await cleanup.enter_async_context(grpc.aio.insecure_channel(address))
        patch.undo()
        yield Service(
            catalog_pb2_grpc.CatalogServiceStub(channel),
            search_pb2_grpc.SearchServiceStub(channel),
            embedder,
            store,
            address,
        )
