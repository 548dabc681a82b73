"""A process that serves every method of every contract, each of which fails on what it was sent.

    python -m tests.service_runtime.failing_services [settings of a service]

The metadata `x-way` of a call say in which of the `WAYS`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc.aio
from pydantic_settings import SettingsConfigDict

from cir.combiner.v1 import combiner_pb2, combiner_pb2_grpc
from cir.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from cir.search.v1 import catalog_pb2, catalog_pb2_grpc, search_pb2, search_pb2_grpc
from service_runtime.server import Application, main
from service_runtime.settings import ServiceSettings

SERVICES: Mapping[str, tuple[Any, Callable[[Any, Any], None]]] = {
    "cir.embedder.v1.EmbedderService": (
        embedder_pb2,
        embedder_pb2_grpc.add_EmbedderServiceServicer_to_server,
    ),
    "cir.combiner.v1.CombinerService": (
        combiner_pb2,
        combiner_pb2_grpc.add_CombinerServiceServicer_to_server,
    ),
    "cir.search.v1.SearchService": (search_pb2, search_pb2_grpc.add_SearchServiceServicer_to_server),
    "cir.search.v1.CatalogService": (catalog_pb2, catalog_pb2_grpc.add_CatalogServiceServicer_to_server),
}
WAYS = ("raise", "group", "thread", "task", "callback", "library", "warning")


class Settings(ServiceSettings):
    """Of this process."""

    model_config = SettingsConfigDict(env_prefix="CIR_FAILING_", extra="forbid", env_ignore_empty=True)


class Quoting(Exception):
    """An error that quotes whatever it is given in every place that an error has."""

    def __init__(self, given: object) -> None:
        super().__init__(f"could not convert {given!r}", given)
        self.given = given
        self.add_note(f"given {given!r}")


def convert(given: object, way: str) -> None:
    """Fail on `given`, with a frame that holds it, in one of the `WAYS`."""
    text = str(given)
    local = [text, {"key": given}]
    match way:
        case "group":
            raise ExceptionGroup(text, [Quoting(local), OSError(28, text, text)])
        case "thread":
            thread = threading.Thread(target=convert, args=(given, "raise"), name=text[:100])
            thread.start()
            thread.join()
        case "library":
            logging.getLogger("qdrant_client").error(f"cannot send {text}")
            logging.getLogger("uvicorn.error").error("cannot send %s", local)
            try:
                float(text)
            except ValueError:
                logging.getLogger("grpc._cython.cygrpc").exception(f"Unexpected {text}", stack_info=True)
        case "warning":
            warnings.warn(text, UserWarning, stacklevel=1)
    try:
        float(text)
    except ValueError as error:
        raise Quoting(local) from error


async def fail(request: Any, context: Any) -> None:
    """Fail as the call's metadata says."""
    metadata = dict(context.invocation_metadata())
    way = metadata["x-way"]
    loop = asyncio.get_running_loop()
    if way == "task":
        failing = loop.create_task(asyncio.to_thread(convert, request, "raise"), name=str(request)[:100])
        await asyncio.sleep(0.05)
        del failing
    if way == "callback":
        loop.call_soon(convert, request, "raise")
    convert((request, metadata), way)


class _Failing:
    """A servicer whose every method fails."""

    def __init__(self, streams: frozenset[str]) -> None:
        self._streams = streams

    def __getattr__(self, name: str) -> Any:
        if name not in self._streams:
            return fail

        async def stream(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            async for request in requests:
                await fail(request, context)
                yield

        return stream


class FailingServices(Application):
    """All services of this project, without anything behind them."""

    service_names = tuple(SERVICES)

    def register(self, server: grpc.aio.Server) -> None:
        for name, (module, add) in SERVICES.items():
            service = module.DESCRIPTOR.services_by_name[name.rpartition(".")[2]]
            add(_Failing(frozenset(m.name for m in service.methods if m.client_streaming)), server)

    async def start(self) -> Mapping[str, object]:
        return {}

    async def close(self) -> None:
        pass


if __name__ == "__main__":
    sys.exit(main(Settings, lambda settings: FailingServices()))
