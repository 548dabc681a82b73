"""HTTP servers of the project: bounded in connections and requests, and drained when they stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from socket import socket
from types import FrameType
from typing import TypeVar

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cir.address import Address
from service_runtime.errors import StartupError
from service_runtime.fair_room import Places, Rounds, Shares
from service_runtime.http_connections import bounded_protocol
from service_runtime.http_metrics import HttpMetrics, Measured
from service_runtime.listen import bound_listener, open_sockets, remove_socket
from service_runtime.logging import (
    capture_libraries,
    configure_logging,
    get_logger,
    log_loop_error,
    warn_of_unknown_variables,
)
from service_runtime.metrics import create_registry, serve_metrics
from service_runtime.rate_limit import host_name
from service_runtime.settings import HttpSettings

S = TypeVar("S", bound=HttpSettings)

#: Parameters of an address: more than a call's longest list, and few enough to be read in a millisecond.
MAX_PARAMETERS = 1_100

#: Largest head of a request: its address, which holds the conversation, and its headers.
MAX_HEAD_BYTES = 32 * 1024
#: Path that says whether a process takes requests.
HEALTH = "/healthz"


class Busy:
    """An ASGI application that gives one answer while another is answering as many requests as it may.

    Questions for health are always let through: a process that is busy lives. Of one client's requests `each`
    are answered at a time, where that is set, and the others wait for them; clients take turns in beginning.
    `prefix` is the path that all addresses may have in front. An address of more than `parameters` is refused
    before any of them is read.
    """

    def __init__(
        self,
        application: ASGIApp,
        most: int,
        answer: ASGIApp,
        *,
        each: int | None = None,
        prefix: str = "",
        parameters: int = MAX_PARAMETERS,
    ) -> None:
        self._application = application
        self._parameters = parameters
        self._too_many = PlainTextResponse(f"an address has at most {parameters} parameters", 400)
        self._health = {HEALTH, prefix + HEALTH}
        self._answer = answer
        self._places = Places(most)
        self._shares = Shares(each or most)
        self._rounds = Rounds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] in self._health:
            await self._application(scope, receive, send)
            return
        client = client_name(scope)
        if scope.get("query_string", b"").count(b"&") >= self._parameters:
            await self._too_many(scope, receive, send)
        elif not self._places.has_one(client):
            await self._answer(scope, receive, send)
        else:
            with self._places.hold(client):
                async with self._shares.hold(client):
                    await self._rounds.begin(client)
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
        warn_of_unknown_variables(settings.unknown_variables(os.environ))
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
        if settings.metrics_port:
            facts = {**facts, "metrics": f"{settings.metrics_address.url}/metrics"}
        get_logger().info("serving", service=settings.program, address=address, **facts)
        try:
            return 0 if await serve_http(application, sockets, settings) else 1
        finally:
            remove_socket(listener)


async def serve_http(application: ASGIApp, sockets: list[socket], settings: HttpSettings) -> bool:
    """Serve on `sockets` until SIGINT or SIGTERM; return False where it could not start.

    Raises:
        StartupError: the port of the metrics cannot be bound.
    """
    draining, metrics = Draining(application), HttpMetrics(settings)
    server = _Server(
        uvicorn.Config(
            Measured(draining, metrics),
            http=bounded_protocol(
                settings.max_connections, settings.request_head_seconds, metrics.record_closed
            ),
            ws="none",
            lifespan="off",
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            log_config=None,
            access_log=False,
            server_header=False,
            forwarded_allow_ips=settings.proxies,
            # uvicorn names whole seconds, and takes any number.
            timeout_keep_alive=settings.keep_alive_seconds,  # type: ignore[arg-type]
            timeout_graceful_shutdown=settings.shutdown_grace_seconds,  # type: ignore[arg-type]
        ),
        draining,
        settings.shutdown_linger_seconds,
    )
    metrics.connections.set_function(lambda: len(server.server_state.connections))
    with ExitStack() as stack:
        if settings.metrics_port:
            registry = create_registry(settings.program, metrics.collectors())
            stack.enter_context(serve_metrics(registry, settings.metrics_address))
        await server.serve(sockets)
    return server.started
