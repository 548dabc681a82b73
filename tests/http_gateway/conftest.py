"""A gateway in this process, before a search service over a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc.aio
import httpx
import pytest

from http_gateway.app import Gateway
from http_gateway.settings import GatewaySettings
from tests.search_service.conftest import Stack
from tests.search_service.conftest import stack as stack


@pytest.fixture
async def web(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with AsyncExitStack() as cleanup:
        yield await gateway(cleanup, stack.address, max_body_bytes=200_000)


async def gateway(
    cleanup: AsyncExitStack, address: str, embedder: str = "", **settings: Any
) -> httpx.AsyncClient:
    """A client of a gateway in this process."""
    search = await cleanup.enter_async_context(grpc.aio.insecure_channel(address))
    other = await cleanup.enter_async_context(grpc.aio.insecure_channel(embedder)) if embedder else None
    known = GatewaySettings(search=address, embedder=embedder or None, **settings)
    application = Gateway(known, search, other).application()
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    return await cleanup.enter_async_context(
        httpx.AsyncClient(transport=transport, base_url="http://gateway")
    )
