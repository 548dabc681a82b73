"""A service that does what its requests name, for tests of the runtime around it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import grpc.aio
from prometheus_client import Gauge
from prometheus_client.registry import Collector

from cir.combiner.v1 import combiner_pb2 as pb
from cir.combiner.v1 import combiner_pb2_grpc as rpc
from cir.common.v1 import errors_pb2
from service_runtime.errors import ServiceError
from service_runtime.interceptor import call_metadata
from service_runtime.server import Application
from service_runtime.watchdog import Progress

NAME = "cir.combiner.v1.CombinerService"
COMBINE = f"/{NAME}/Combine"


@contextmanager
def working(progress: Progress) -> Iterator[None]:
    """Count a block as one item of work."""
    progress.begin()
    try:
        yield
    finally:
        progress.end()


class ExampleService(Application, rpc.CombinerServiceServicer):
    """Combine answers at once, refuses, breaks, hangs or blocks the event loop, by the combiner's name.

    `next_channel` leads to another one, for "forward".
    """

    service_names = (NAME,)

    def __init__(self, next_channel: grpc.aio.Channel | None = None) -> None:
        self.work = Progress()
        self.go = threading.Event()
        self._next = next_channel
        self._gauge = Gauge("cir_example_things", "Things.", registry=None)
        self._gauge.set(7)

    def register(self, server: grpc.aio.Server) -> None:
        rpc.add_CombinerServiceServicer_to_server(self, server)

    async def start(self) -> Mapping[str, object]:
        return {}

    async def close(self) -> None:
        return None

    def collectors(self) -> Sequence[Collector]:
        return (self._gauge,)

    def progress(self) -> Mapping[str, Progress]:
        return {"work": self.work}

    async def Combine(self, request: pb.CombineRequest, context: Any) -> pb.CombineResponse:
        with working(self.work):
            match request.combiner:
                case "refuse":
                    raise ServiceError(errors_pb2.OVERLOADED, "too much", retry_after=1.25)
                case "bug":
                    raise ZeroDivisionError("a bug")
                case "quote":
                    raise ValueError(f"could not convert {request}")
                case "quoting refusal":
                    quoted = request.text_features.model_fingerprint
                    raise ServiceError(
                        errors_pb2.FIELD_INVALID,
                        f"not {quoted}",
                        field=f"text_features.model_fingerprint.{quoted}",
                    )
                case "hang":
                    await asyncio.to_thread(self.go.wait, 30)
                case "block":
                    self.go.wait(30)
                case "forward":
                    assert self._next is not None
                    return await rpc.CombinerServiceStub(self._next).Combine(
                        pb.CombineRequest(combiner="fine"), timeout=10, metadata=call_metadata()
                    )
        return pb.CombineResponse(combiner=request.combiner)
