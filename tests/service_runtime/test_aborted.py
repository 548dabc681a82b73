"""Whatever a call took is gone when the call is, without the garbage collector."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import grpc.aio
import pytest

from cir.combiner.v1 import combiner_pb2 as pb
from cir.common.v1 import errors_pb2
from service_runtime.errors import ServiceError
from service_runtime.receive import UNCOUNTED_BYTES, parse_aside
from service_runtime.server import serving
from tests.robustness import wire
from tests.service_runtime.probe import COMBINE, Probe, channel, settings

pytestmark = pytest.mark.service

WATCH = "/grpc.health.v1.Health/Watch"
CHECK = "/grpc.health.v1.Health/Check"
REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


class Failing(Probe):
    """Fails as the request's combiner says."""

    async def Combine(self, request: pb.CombineRequest, context: Any) -> pb.CombineResponse:
        def fail(kind: str) -> None:
            try:
                raise LookupError(request.combiner)
            except LookupError as error:
                if kind == "bug":
                    raise ValueError(request) from error
                if kind == "from none":
                    raise ServiceError(errors_pb2.ITEM_NOT_FOUND, "nothing") from None
                raise ServiceError(errors_pb2.ITEM_NOT_FOUND, "nothing") from error

        if request.combiner == "abort":
            await context.abort(grpc.StatusCode.NOT_FOUND, "nothing")
        if request.combiner == "aside":
            await parse_aside(fail, "refused")
        if request.combiner in ("bug", "from none", "refused"):
            fail(request.combiner)
        return await super().Combine(request, context)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.freeze()  # what other tests left is not looked at
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


def large(combiner: str) -> bytes:
    """Serialise a request of so many parts that it is parsed aside."""
    return pb.CombineRequest(combiner=combiner).SerializeToString() + wire.field(2, b"") * UNCOUNTED_BYTES


def left() -> list[str]:
    """Return the kinds of objects that calls left; gRPC's loop itself keeps those of the last two."""
    kinds = Counter(type(thing).__name__ for thing in gc.get_objects())
    most = {"CombineRequest": 0, "_ServicerContext": 2, "AbortError": 2}
    return [kind for kind, number in most.items() if kinds[kind] > number]


@pytest.mark.parametrize(
    ("method", "content"),
    [
        *((COMBINE, large(name)) for name in ("", "refused", "from none", "bug", "abort", "aside", "wait")),
        (COMBINE, wire.field(1, b"\xff")),
        (COMBINE, b"\x0b" * 2 * UNCOUNTED_BYTES),
        (COMBINE, wire.field(2, wire.field(5, b"") * 200_000)),
        (CHECK, wire.field(1, b"unknown")),
        (CHECK, wire.field(1, b"a" * 5000)),
        (WATCH, wire.field(1, b"a" * 5000)),
        (REFLECT, wire.field(4, b"a" * 5000)),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:12].hex(),
)
async def test_an_ended_call_holds_nothing(method: str, content: bytes, no_collector: None) -> None:
    application = Failing()
    async with serving(application, settings()) as address, channel(address) as on:
        for _ in range(5):
            send: Any = on.stream_stream(method)
            call = send(iter([content]), timeout=20)
            if b"wait" in content[:10]:
                await asyncio.wait_for(application.waiting.wait(), 10)
                call.cancel()
            with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
                await call.read()
            del call
        for _ in range(100):
            if not left():
                break
            await asyncio.sleep(0.02)
        assert left() == []
