"""HTTP servers of the project: bounded in connections, in requests, in a request's head and in its time."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from socket import socket
from typing import Any

import h11
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Largest head of a request: its address, which holds the conversation, and its headers.
MAX_HEAD_BYTES = 32 * 1024


class Busy:
    """An ASGI application that answers 503 while another is answering as many requests as it may."""

    def __init__(self, application: ASGIApp, most: int) -> None:
        self._application = application
        self._most = most
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and self._running >= self._most:
            answer = PlainTextResponse("busy; try again", 503, {"Retry-After": "1", "Connection": "close"})
            return await answer(scope, receive, send)
        self._running += 1
        try:
            await self._application(scope, receive, send)
        finally:
            self._running -= 1


def bounded_protocol(most: int, seconds: float) -> type[asyncio.Protocol]:
    """Return the class of connections that uvicorn opens.

    A connection over `most` is closed at once. One that has not sent the whole head of a request after
    one to two times `seconds` is closed too; uvicorn itself would wait for ever.
    """

    class Bounded(H11Protocol):
        _waiting: object = None
        _looking: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            if len(self.connections) >= most:
                transport.abort()
                return
            super().connection_made(transport)
            self._look()

        def data_received(self, data: bytes) -> None:
            if self.transport is not None:
                super().data_received(data)

        def eof_received(self) -> None:
            if self.transport is not None:
                super().eof_received()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._looking is not None:
                self._looking.cancel()
            if self.transport is not None:
                super().connection_lost(exc)

        def _look(self) -> None:
            """Close the connection when it waits for the same head as at the last look."""
            waiting = (self.cycle, True) if self.conn.their_state is h11.IDLE else None
            if waiting is not None and waiting == self._waiting:
                self.transport.close()
                return
            self._waiting = waiting
            self._looking = self.loop.call_later(seconds, self._look)

    return Bounded


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGINT or SIGTERM. uvicorn's own would then die of the signal, with things still open."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


async def serve_http(
    application: ASGIApp,
    sockets: list[socket],
    *,
    max_requests: int,
    max_connections: int,
    head_seconds: float,
    grace_seconds: int,
    proxies: Sequence[str] = (),
) -> bool:
    """Serve on `sockets` until SIGINT or SIGTERM; return False where it could not start.

    More than `max_requests` at a time get 503, connections beyond `max_connections` are closed. `proxies` are
    those whose X-Forwarded-For is believed. After the signal running requests get `grace_seconds`.
    """
    server = _Server(
        uvicorn.Config(
            Busy(application, max_requests),
            http=bounded_protocol(max_connections, head_seconds),
            ws="none",
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            log_config=None,
            access_log=False,
            server_header=False,
            forwarded_allow_ips=list(proxies),
            timeout_graceful_shutdown=grace_seconds,
        )
    )
    await server.serve(sockets)
    return server.started
