"""An asyncio gRPC server that calls of unknown methods cannot end.

grpc.aio decodes the method's name of such a call in its accept loop, and one byte in it that is not UTF-8
ends the loop, and with it the server, for all callers (grpcio 1.85). Here these calls never reach that loop:
they are answered UNIMPLEMENTED outside it. Known methods are registered with the core, which compares their
bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc.aio
from grpc._cython import cygrpc
from grpc.aio import _server

_UNKNOWN = "/unknown"


class _CoreServer(cygrpc.AioServer):  # type: ignore[misc]  # compiled, without types
    """The core's server; calls that no registered method takes are answered here."""

    _answering: set[asyncio.Task[Any]]

    async def _request_call(self) -> Any:
        """Never return a call to the accept loop. Ends when it is cancelled or the server stops."""
        self._answering = set()
        loop = asyncio.get_running_loop()
        nothing = cygrpc._MethodResolver([], {})
        while True:
            state = await super()._request_call()
            answer = cygrpc._handle_rpc(_UNKNOWN, nothing, (), state, loop, False)
            task = loop.create_task(cygrpc._schedule_rpc_coro(answer, state, loop, _UNKNOWN))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)


class _Server(_server.Server):
    def __init__(
        self, interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, Any]]
    ) -> None:
        self._loop = cygrpc.get_working_loop()
        arguments = _server._augment_channel_arguments(options, None)
        self._server = _CoreServer(self._loop, None, (), interceptors, arguments, None)


def create_server(
    *, interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, Any]]
) -> grpc.aio.Server:
    """Create a server as `grpc.aio.server` does.

    Servicers must register their methods, as generated code does.
    """
    server: Any = _Server(interceptors, options)
    return server  # type: ignore[no-any-return]
