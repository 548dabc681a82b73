"""A service for tests of what surrounds every service."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from cir.combiner.v1 import combiner_pb2 as pb
from cir.combiner.v1 import combiner_pb2_grpc as rpc
from service_runtime.auth import current_key
from service_runtime.server import Application
from service_runtime.settings import ServiceSettings

SERVICE = "cir.combiner.v1.CombinerService"
COMBINE = f"/{SERVICE}/Combine"


class Probe(Application, rpc.CombinerServiceServicer):
    """Answers `Combine` with the name of the caller's key; "wait" sets `waiting` and waits for `go`."""

    service_names = (SERVICE,)

    def __init__(self, *, write_methods: frozenset[str] = frozenset()) -> None:
        self.write_methods = write_methods
        self.calls = 0
        self.waiting = asyncio.Event()
        self.go = asyncio.Event()

    def register(self, server: grpc.aio.Server) -> None:
        rpc.add_CombinerServiceServicer_to_server(self, server)

    async def start(self) -> Mapping[str, object]:
        return {}

    async def close(self) -> None:
        pass

    async def Combine(self, request: pb.CombineRequest, context: Any) -> pb.CombineResponse:
        self.calls += 1
        if request.combiner == "wait":
            self.waiting.set()
            await self.go.wait()
        key = current_key()
        return pb.CombineResponse(combiner=key.name if key else "nobody")

    async def GetCombinerInfo(self, request: Any, context: Any) -> pb.GetCombinerInfoResponse:
        return pb.GetCombinerInfoResponse(version="1")


def settings(**values: Any) -> ServiceSettings:
    """Return settings for a free port of loopback."""
    return ServiceSettings(port=0, shutdown_grace_seconds=0, **values)


def channel(address: str, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
    """Open a plain channel, without the retries and limits that this project's own clients have.

    Subchannels are not shared, so that each channel makes a connection of its own.
    """
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=options)
    return grpc.aio.secure_channel(address, credentials, options=options)


def combine(on: grpc.aio.Channel, key: str = "", **fields: Any) -> grpc.aio.UnaryUnaryCall[Any, Any]:
    """Call `Combine`, with an API key where one is given."""
    metadata = (("x-api-key", key),) if key else ()
    return rpc.CombinerServiceStub(on).Combine(pb.CombineRequest(**fields), metadata=metadata, timeout=10)


async def good_call(address: str, credentials: grpc.ChannelCredentials | None = None, key: str = "") -> str:
    """Make a call on a new connection, which must succeed; return the name of the key."""
    async with channel(address, credentials) as on:
        return str((await combine(on, key)).combiner)


def health_stub(on: grpc.aio.Channel) -> Any:
    """Return a stub of the health service; the library types it for channels without asyncio alone."""
    return health_pb2_grpc.HealthStub(on)


def reflection_stub(on: grpc.aio.Channel) -> Any:
    """Return a stub of the reflection service, likewise."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub
    return stub(on)


async def is_alive(address: str, credentials: grpc.ChannelCredentials | None = None) -> bool:
    """Return True when the service's health, asked without a key, is SERVING."""
    async with channel(address, credentials) as on:
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        answer = await health_stub(on).Check(request, timeout=10)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
