"""A combiner service on loopback, in the test's own process, and what its errors say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cir.combiner.v1.combiner_pb2_grpc import CombinerServiceStub
from combiner_service.application import CombinerApplication
from combiner_service.settings import CombinerSettings
from service_runtime.server import serving


@dataclass(frozen=True)
class Refusal:
    """A failed call: gRPC code, reason, message, field at fault."""

    code: grpc.StatusCode
    reason: str
    message: str
    field: str


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


async def refused(call: Awaitable[Any]) -> Refusal:
    """The refusal that a call ends with; the test fails if it succeeds."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    reason, field = "", ""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # has what a call has
    for detail in status.details if status else ():
        info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            assert info.domain == "cir"
            reason = info.reason
        elif detail.Unpack(request):
            field = request.field_violations[0].field
    return Refusal(error.code(), reason, error.details() or "", field)


Serve = Callable[..., Awaitable[Any]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts services that stop with the test: `stub = await serve(setting=value, ...)`."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Any:
            return await stack.enter_async_context(running(**settings))

        yield start
