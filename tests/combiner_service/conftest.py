"""A combiner service on a free port, and reading of its metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from prometheus_client.registry import Collector

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


def sample(collectors: Iterable[Collector], name: str, **labels: str) -> float | None:
    """The value of a metric with exactly these labels; None where there is none."""
    for collector in collectors:
        for metric in collector.collect():
            for one in metric.samples:
                if one.name == name and one.labels == labels:
                    return one.value
    return None
