"""A combiner service on loopback, in the test's own process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from cir.combiner.v1.combiner_pb2_grpc import CombinerServiceStub
from combiner_service.application import CombinerApplication
from combiner_service.settings import CombinerSettings
from service_runtime.server import serving


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Any]:
    """A stub of a service with these settings; the service stops with the block."""
    chosen = CombinerSettings(port=0, log_level="error", **settings)
    async with (
        serving(CombinerApplication(chosen), chosen) as address,
        grpc.aio.insecure_channel(
            address, options=[("grpc.max_receive_message_length", 64 * 1024 * 1024)]
        ) as channel,
    ):
        yield CombinerServiceStub(channel)


Serve = Callable[..., Awaitable[Any]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts services that stop with the test: `stub = await serve(setting=value, ...)`."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Any:
            return await stack.enter_async_context(running(**settings))

        yield start
