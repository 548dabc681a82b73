"""An embedder on loopback, in the test's own process, holding a small model; and what its errors say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cir.embedder.v1.embedder_pb2_grpc import EmbedderServiceStub
from embedder_service.application import EmbedderApplication
from embedder_service.settings import EmbedderSettings
from service_runtime.logging import configure_logging
from service_runtime.server import serving
from tests.embedder_service.small_model import write_config


@pytest.fixture(autouse=True, scope="session")
def _quiet_log() -> None:
    # Faults are injected on purpose; their traces are for operators.
    configure_logging("critical", "json")


@dataclass(frozen=True)
class Refusal:
    """A failed call: gRPC code, reason, message, field at fault, seconds to wait, further facts."""

    code: grpc.StatusCode
    reason: str
    message: str
    field: str
    retry_after: float | None
    metadata: dict[str, str]


def small_settings(folder: Path, **settings: Any) -> EmbedderSettings:
    """Settings of an embedder with the small model on a free port."""
    chosen: dict[str, Any] = {
        "port": 0,
        "log_level": "error",
        "architecture": "small",
        "model_config_file": write_config(folder),
        "pretrained": "random:7",
        "device": "cpu",
        "dtype": "float32",
    }
    return EmbedderSettings(**(chosen | settings))


@asynccontextmanager
async def running(settings: EmbedderSettings) -> AsyncIterator[Any]:
    """A stub of a service with these settings; the service stops with the block."""
    options = [
        ("grpc.max_receive_message_length", 64 * 1024 * 1024),
        ("grpc.max_send_message_length", 64 * 1024 * 1024),
    ]
    async with (
        serving(EmbedderApplication(settings), settings) as address,
        grpc.aio.insecure_channel(address, options=options) as channel,
    ):
        yield EmbedderServiceStub(channel)


async def refused(call: Awaitable[Any]) -> Refusal:
    """The refusal that a call ends with; the test fails if it succeeds."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    reason, field, retry_after, metadata = "", "", None, {}
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # has what a call has
    for detail in status.details if status else ():
        info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            assert info.domain == "cir"
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(request):
            field = request.field_violations[0].field
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    return Refusal(error.code(), reason, error.details() or "", field, retry_after, metadata)
