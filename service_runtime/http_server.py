"""HTTP servers of the project: bounded in connections, in requests, in a request's head and in its time."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from socket import socket
from types import FrameType
from typing import Any, TypeVar

import h11
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from cir.address import Address
from service_runtime.errors import StartupError
from service_runtime.fair_room import Places, Shares
from service_runtime.listen import bound_listener, open_sockets, remove_socket
from service_runtime.logging import capture_libraries, configure_logging, get_logger, log_loop_error
from service_runtime.rate_limit import host_name
from service_runtime.settings import HttpSettings
from service_runtime.turns import RoundRobin

S = TypeVar("S", bound=HttpSettings)

#: Parameters of an address: more than a page's conversation has, and few enough to be read in milliseconds.
MAX_PARAMETERS = 4_000
_TOO_MANY_PARAMETERS = PlainTextResponse(f"an address has at most {MAX_PARAMETERS} parameters", 400)

#: Largest head of a request: its address, which holds the conversation, and its headers.
MAX_HEAD_BYTES = 32 * 1024
#: Path that says whether a process takes requests.
HEALTH = "/healthz"


# Lines of what is read at once, 256 KiB at most, and bytes of the pieces in which more are read.
_MOST_LINES, _PIECE_BYTES = 300, 2048


class Busy:
    """An ASGI application that gives one answer while another is answering as many requests as it may.

    Questions for health are always let through: a process that is busy lives. Of one client's requests `each`
    are answered at a time, where that is set, and the others wait for them. `prefix` is the path that all
    addresses may have in front.
    """

    def __init__(
        self,
        application: ASGIApp,
        most: int,
        answer: ASGIApp,
        *,
        each: int | None = None,
        prefix: str = "",
    ) -> None:
        self._application = application
        self._health = {HEALTH, prefix + HEALTH}
        self._answer = answer
        self._places = Places(most)
        self._shares = Shares(each or most)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] in self._health:
            await self._application(scope, receive, send)
            return
        client = client_name(scope)
        if scope.get("query_string", b"").count(b"&") >= MAX_PARAMETERS:
            await _TOO_MANY_PARAMETERS(scope, receive, send)
        elif not self._places.has_one(client):
            await self._answer(scope, receive, send)
        else:
            with self._places.hold(client):
                async with self._shares.hold(client):
                    await self._application(scope, receive, send)


def client_name(scope: Scope) -> str:
    """Return the name that the client of a request is counted under: its address."""
    client = scope.get("client")
    return host_name(client[0]) if client else ""


class Draining:
    """An ASGI application around another that tells clients to go elsewhere once it is to stop.

    Health then says 503, and answers close their connections.
    """

    def __init__(self, application: ASGIApp) -> None:
        self._application = application
        self.stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def last(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        if not self.stopping or scope["type"] != "http":
            await self._application(scope, receive, send)
        elif scope["path"].endswith(HEALTH):
            await PlainTextResponse("stopping", 503)(scope, receive, last)
        else:
            await self._application(scope, receive, last)


class _Pieces:
    """Data sent in very many lines, read by small pieces, one at a time of all connections.

    Between two of them the event loop does other things.
    """

    def __init__(self) -> None:
        self._waiting: RoundRobin[bytes] = RoundRobin()
        self._running = False

    def has(self, connection: Any) -> bool:
        """Return True when something of a connection waits."""
        return self._waiting.oldest(connection) is not None

    def put(self, connection: Any, data: bytes) -> None:
        """Append what a connection has sent."""
        for place in range(0, len(data), _PIECE_BYTES):
            self._waiting.put(connection, data[place : place + _PIECE_BYTES])
        if not self._running:
            self._running = True
            asyncio.get_running_loop().call_soon(self._read)

    def drop(self, connection: Any) -> None:
        """Forget a connection."""
        while self.has(connection):
            self._waiting.drop_oldest(connection)

    def _read(self) -> None:
        self._running = bool(self._waiting)
        if not self._waiting:
            return
        asyncio.get_running_loop().call_soon(self._read)
        connection: Any = self._waiting.next_caller()
        piece = self._waiting.drop_oldest(connection)
        self._waiting.end_turn(connection)
        connection.take(piece, last=not self.has(connection))


def bounded_protocol(most: int, seconds: float) -> type[asyncio.Protocol]:
    """Return the class of connections that uvicorn opens.

    A connection over `most` is closed at once. After one to two times `seconds` one is closed too that has
    not sent the whole head of a request, has taken nothing of an answer, or goes on with a body that has been
    answered; uvicorn itself would wait for ever.
    """

    pieces = _Pieces()

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
            if self.transport is None:
                return
            if pieces.has(self) or data.count(b"\r\n") > _MOST_LINES:
                # Chunks of a few bytes, perhaps: reading them takes a thousand times as long as it should.
                self.transport.pause_reading()
                pieces.put(self, data)
            else:
                super().data_received(data)

        def take(self, piece: bytes, last: bool) -> None:
            """Read a piece of what came before."""
            super().data_received(piece)
            if last and self.transport is not None and not self.flow.read_paused:
                self.transport.resume_reading()

        def eof_received(self) -> None:
            if self.transport is not None:
                super().eof_received()

        def connection_lost(self, exc: Exception | None) -> None:
            pieces.drop(self)
            if self._looking is not None:
                self._looking.cancel()
            if self.transport is not None:
                super().connection_lost(exc)

        def _look(self) -> None:
            """Close the connection when nothing has moved since the last look: of a head, or of an answer."""
            unsent, theirs = self.transport.get_write_buffer_size(), self.conn.their_state
            answered = theirs is h11.SEND_BODY and self.cycle.response_complete
            waiting = (self.cycle, unsent) if unsent or answered or theirs is h11.IDLE else None
            if waiting is not None and waiting == self._waiting:
                # Closing alone would wait for what is unsent.
                self.transport.abort() if unsent else self.transport.close()
                return
            self._waiting = waiting
            self._looking = self.loop.call_later(seconds, self._look)

    return Bounded


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, draining: Draining, linger: float) -> None:
        super().__init__(config)
        self._draining = draining
        self._linger = linger

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Let clients turn elsewhere for a while, then stop; at once after a second signal."""
        linger = 0.0 if self._draining.stopping else self._linger
        self._draining.stopping = True
        asyncio.get_running_loop().call_later(linger, super().handle_exit, sig, frame)

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


def run_http(
    settings_class: type[S],
    program: Callable[[S], AbstractAsyncContextManager[tuple[ASGIApp, Mapping[str, str]]]],
    arguments: list[str],
) -> int:
    """Serve what `program` opens until SIGINT or SIGTERM; return the exit code.

    It opens the application and says facts for the log; it is closed after the last request.
    """
    try:
        settings = settings_class.load(arguments)
        configure_logging(settings.log_level, settings.log_format)
        capture_libraries(settings.log_level)
        return asyncio.run(_run(settings, program))
    except StartupError as error:
        print(f"{settings_class.program}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


async def _run(
    settings: S, program: Callable[[S], AbstractAsyncContextManager[tuple[ASGIApp, Mapping[str, str]]]]
) -> int:
    asyncio.get_running_loop().set_exception_handler(log_loop_error)
    async with program(settings) as (application, facts):
        listener = settings.listener
        sockets = open_sockets(listener)
        bound = bound_listener(listener, sockets)
        address = bound.url if isinstance(bound, Address) else str(bound)
        get_logger().info("serving", service=settings.program, address=address, **facts)
        try:
            return 0 if await serve_http(application, sockets, settings) else 1
        finally:
            remove_socket(listener)


async def serve_http(application: ASGIApp, sockets: list[socket], settings: HttpSettings) -> bool:
    """Serve on `sockets` until SIGINT or SIGTERM; return False where it could not start."""
    draining = Draining(application)
    server = _Server(
        uvicorn.Config(
            draining,
            http=bounded_protocol(settings.max_connections, settings.request_head_seconds),
            ws="none",
            lifespan="off",
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            log_config=None,
            access_log=False,
            server_header=False,
            forwarded_allow_ips=settings.proxies,
            timeout_graceful_shutdown=settings.shutdown_grace_seconds,
        ),
        draining,
        settings.shutdown_linger_seconds,
    )
    await server.serve(sockets)
    return server.started
