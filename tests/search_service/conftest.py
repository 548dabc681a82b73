"""A search service over a real store, with stand-ins for its neighbours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import pytest
from pydantic import SecretStr

from cir.fields import FieldType
from cir.search.v1 import catalog_pb2_grpc, search_pb2_grpc
from search_service.application import SearchApplication
from search_service.settings import SearchSettings
from service_runtime.server import serving
from tests.search_service.neighbours import (
    DIMENSION,
    FINGERPRINT,
    FakeCombiner,
    FakeEmbedder,
    features_of,
    start,
)
from tests.vector_store.engines import REAL_ENGINES, engine_url
from vector_store import VectorStore, open_store
from vector_store.types import PointBatch, VersionSpec

COLOURS = ("red", "green", "blue")
SCHEMA = {
    "colour": FieldType.KEYWORD,
    "price": FieldType.INTEGER,
    "weight": FieldType.FLOAT,
    "added": FieldType.DATETIME,
}


@dataclass
class Stack:
    """What a test talks to."""

    search: search_pb2_grpc.SearchServiceAsyncStub
    catalogs: catalog_pb2_grpc.CatalogServiceAsyncStub
    embedder: FakeEmbedder
    combiner: FakeCombiner
    embedder_server: grpc.aio.Server
    combiner_server: grpc.aio.Server
    store_url: str
    address: str
    embedder_address: str


async def publish(store: VectorStore, catalog: str, count: int, *, first: int = 0) -> str:
    """Publish a version with items item-<first> to item-<first+count-1>; returns the version."""
    writer = await store.create_version(
        catalog, VersionSpec(DIMENSION, FINGERPRINT, SCHEMA, {"architecture": "test"})
    )
    numbers = range(first, first + count)
    await writer.upsert(
        PointBatch(
            ids=[f"item-{n}" for n in numbers],
            features=np.stack([features_of(f"picture {n}") for n in numbers]),
            payloads=[
                {
                    "colour": COLOURS[n % 3],
                    "price": n,
                    "weight": n / 4,
                    "added": f"2026-01-{n % 28 + 1:02d}T00:00:00Z",
                }
                for n in numbers
            ],
            images=[f"{n}.jpg" for n in numbers],
        )
    )
    info = await writer.finish()
    await store.publish(catalog, info.version)
    return info.version


@asynccontextmanager
async def running_stack(folder: Path, *, name: str = "edge", api_keys: str = "") -> AsyncIterator[Stack]:
    """A catalog "shop" of 40 items on an engine behind a running search service."""
    embedder, combiner = FakeEmbedder(), FakeCombiner()
    async with AsyncExitStack() as cleanup:
        url = await cleanup.enter_async_context(engine_url(name, folder / "store"))
        store = open_store(url)
        await publish(store, "shop", 40)
        await store.close()
        embedder_server, embedder_address = await start(embedder)
        cleanup.push_async_callback(embedder_server.stop, None)
        combiner_server, combiner_address = await start(combiner)
        cleanup.push_async_callback(combiner_server.stop, None)
        settings = SearchSettings(
            port=0,
            embedder=embedder_address,
            combiner=combiner_address,
            store=url,
            call_timeout_seconds=20,
            api_keys=SecretStr(api_keys),
        )
        address = await cleanup.enter_async_context(serving(SearchApplication(settings), settings))
        channel = await cleanup.enter_async_context(grpc.aio.insecure_channel(address))
        yield Stack(
            search_pb2_grpc.SearchServiceStub(channel),
            catalog_pb2_grpc.CatalogServiceStub(channel),
            embedder,
            combiner,
            embedder_server,
            combiner_server,
            url,
            address,
            embedder_address,
        )


@pytest.fixture(params=REAL_ENGINES)
async def stack(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stack]:
    """The same for one test, on each engine."""
    async with running_stack(tmp_path, name=request.param) as running:
        yield running
