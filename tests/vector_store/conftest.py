"""The engines that every congruence test runs on."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cir.address import Address, Host
from tests.vector_store.engines import server_url
from tests.vector_store.local_qdrant import open_local_qdrant
from vector_store import VectorStore, open_store
from vector_store.errors import CatalogNotFoundError
from vector_store.qdrant import QdrantOptions
from vector_store.qdrant.client import connect
from vector_store.qdrant.store import QdrantStore

from .grpc_stand_in import StandIn


@pytest.fixture(params=["edge", "local", "grpc", "server"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[VectorStore]:
    """An empty store on each engine.

    `grpc` is the path to a server with the client's local mode behind it, `server` the one at QDRANT_URL.
    """
    opened: VectorStore
    stand_in = None
    if request.param == "edge":
        opened = open_store(f"edge://{tmp_path}")
    elif request.param == "local":
        opened = open_local_qdrant()
    elif request.param == "grpc":
        stand_in = StandIn()
        await stand_in.start()
        opened = QdrantStore(
            connect(Address(Host("127.0.0.1"), stand_in.port), tls=False, api_key="", timeout_s=10),
            location="stand-in",
            options=QdrantOptions(poll_s=0.0),
        )
    else:
        opened = open_store(server_url())
    yield opened
    await opened.close()
    if stand_in:
        await stand_in.stop()


@pytest.fixture
async def catalog(store: VectorStore) -> AsyncIterator[str]:
    """A catalog name that no other test uses; dropped afterwards."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    with contextlib.suppress(CatalogNotFoundError):
        await store.delete_catalog(name)
