"""The parts of a service, and a gRPC server's life around them: bind, warm up, serve, drain, close."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any, TypeVar

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_reflection.v1alpha import reflection
from prometheus_client.registry import Collector

from cir.address import Address, UnixSocket
from service_runtime.auth import create_authenticator
from service_runtime.errors import ServiceError, StartupError
from service_runtime.grpcio_patch import create_server
from service_runtime.interceptor import CallInterceptor
from service_runtime.listen import check_free_socket
from service_runtime.logging import (
    capture_libraries,
    configure_logging,
    get_logger,
    log_loop_error,
    warn_of_unknown_variables,
)
from service_runtime.memory import give_back_memory, limit_arenas
from service_runtime.metrics import create_registry, serve_metrics
from service_runtime.open_methods import Health
from service_runtime.receive import Inbox
from service_runtime.settings import ServiceSettings, startup_warnings
from service_runtime.tls import server_credentials
from service_runtime.tracing import server_interceptors, tracing
from service_runtime.watchdog import EXIT_CODE, Progress, watch_progress


class Application(ABC):
    """One service. The port opens before `start`, so that probes see a live process that warms up."""

    #: Full names of the gRPC services, for health and reflection.
    service_names: Sequence[str]
    #: Full method paths ("/package.Service/Method") that change data and need a key of the write scope.
    write_methods: Collection[str] = frozenset()
    #: Unary calls of one caller that are worked on at a time, None for all: for a service whose handlers work
    #: on the event loop, where each step of a call waits for those of all others.
    calls_of_a_caller: int | None = None

    @abstractmethod
    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicers. No call reaches them before `start` has returned."""

    @abstractmethod
    async def start(self) -> Mapping[str, object]:
        """Load and warm up; return the facts to log (model, limits).

        Raises:
            StartupError: the service cannot start.
        """

    async def drain(self) -> None:  # noqa: B027  # most have nothing to do
        """End the calls that would last on and on; the others get `shutdown_grace_seconds` to finish."""

    @abstractmethod
    async def close(self) -> None:
        """Release everything. No call is being served any more. Also called when `start` failed."""

    def collectors(self) -> Sequence[Collector]:
        """Return the service's own metrics. Asked for after `start`."""
        return ()

    def message_limits(self) -> Mapping[str, int]:
        """Return the bytes that a message of a method ("/package.Service/Method") may have, where others than
        what the contract's fields suggest. Asked for before `start`."""
        return {}

    def progress(self) -> Mapping[str, Progress]:
        """Return the progress of queues, pools and device threads by name. Asked for after `start`."""
        return {}

    def translate(self, error: Exception) -> ServiceError | None:
        """Return the refusal that an exception of the layers below stands for, or None for a bug.

        Called with whatever leaves a call's handler and is not a `ServiceError`, so that no handler has to
        translate errors itself.
        """
        return None


_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_PROBE_SECONDS = 1.0
# Bit 0 of gRPC's set of compression algorithms: none.
_IDENTITY = 1
# gRPC keeps options in 32 bits, and ends the process over some that come near them. As good as no limit: a
# gigabyte, or twelve days.
_LARGEST_OPTION = 1 << 30
Settings = TypeVar("Settings", bound=ServiceSettings)


def main(
    settings_class: type[Settings],
    build: Callable[[Settings], Application],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run a service as a process; return its exit code: 0 after a clean stop, 1 when it cannot start."""
    # Threads of a model that wait must sleep, not spin: spinning takes the cores from decoding and from
    # other processes. Read when torch is loaded, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    limit_arenas()
    try:
        settings = settings_class.load(list(sys.argv[1:] if arguments is None else arguments))
        configure_logging(settings.log_level, settings.log_format)
        capture_libraries(settings.log_level)
        warn_of_unknown_variables(settings.unknown_variables(os.environ))
        with tracing(
            settings.program, endpoint=settings.tracing_endpoint, sample_ratio=settings.tracing_sample_ratio
        ):
            asyncio.run(_run_until_signal(settings, build))
    except StartupError as error:
        print(f"{settings_class.program}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def exit_stalled() -> None:
    """End the process for its supervisor to start again, after probes have had a moment to see the reason."""
    time.sleep(_PROBE_SECONDS)
    os._exit(EXIT_CODE)


@asynccontextmanager
async def serving(
    application: Application,
    settings: ServiceSettings,
    *,
    on_stall: Callable[[], None] = exit_stalled,
    linger: float = 0.0,
) -> AsyncIterator[str]:
    """Serve until the block ends; yield "host:port" or "unix:/path".

    Then health turns NOT_SERVING and calls finish.
    For `linger` seconds after that, new calls are still accepted.

    When work makes no progress (see watchdog.py) health turns NOT_SERVING too, and `on_stall` is called,
    on another thread; the default ends the process.

    Raises:
        StartupError: a port cannot be bound, or the application cannot start.
    """
    authenticator = create_authenticator(settings, application.write_methods)
    credentials = server_credentials(settings)
    inbox = Inbox(settings, application.message_limits())
    calls = CallInterceptor(
        inbox,
        max_concurrent_calls=settings.max_concurrent_calls,
        max_open_calls=settings.max_open_calls_per_connection,
        calls_of_a_caller=application.calls_of_a_caller,
        authenticator=authenticator,
        translate=application.translate,
    )
    server = create_server(
        interceptors=[*server_interceptors(), calls],
        options=_options(settings),
        max_metadata_entries=settings.max_metadata_entries,
        refused=inbox.refused,
    )
    names = ("", *application.service_names)
    # The empty name says that the process lives; a service's name that it is ready.
    health = Health(dict.fromkeys(names, _NOT_SERVING) | {"": _SERVING})
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    application.register(server)
    reflection.enable_server_reflection((*application.service_names, HEALTH, reflection.SERVICE_NAME), server)
    listener = settings.listener
    if isinstance(listener, UnixSocket):
        check_free_socket(listener)
    try:
        port = (
            server.add_insecure_port(str(listener))
            if credentials is None
            else server.add_secure_port(str(listener), credentials)
        )
    except RuntimeError as error:
        raise StartupError(
            f"cannot listen on {listener}: it is in use or not an address of this machine"
        ) from error
    address = str(Address(listener.host, port) if isinstance(listener, Address) else listener)
    for warning in startup_warnings(settings):
        get_logger().warning(warning)
    loop = asyncio.get_running_loop()

    def stall(problem: str) -> None:
        # May be all that still gets out: the event loop itself may be what does not move.
        get_logger().critical("stalled", problem=problem)
        loop.call_soon_threadsafe(unhealthy.set)
        on_stall()

    unhealthy = asyncio.Event()
    await server.start()
    try:
        facts = await application.start()
        # What loading and warming up needed is more than what serving does.
        await asyncio.to_thread(give_back_memory)
        with _observability(application, calls, settings, stall) as observed:
            calls.ready = True
            health.set(application.service_names, _SERVING)
            get_logger().info("serving", service=settings.program, address=address, **observed, **facts)
            stopping_health = asyncio.create_task(_stop_serving_when(unhealthy, health, names))
            try:
                yield address
            finally:
                stopping_health.cancel()
    finally:
        health.set(names, _NOT_SERVING)
        if calls.ready:
            get_logger().info("stopping", service=settings.program, calls_under_way=calls.running)
            # A call that reaches a server as it stops is cancelled by gRPC, which nobody may retry. Clients
            # that watch the health (all of ours) are elsewhere by then.
            await asyncio.sleep(linger)
            await application.drain()
        await server.stop(settings.shutdown_grace_seconds)
        await application.close()


@contextmanager
def _observability(
    application: Application, calls: CallInterceptor, settings: ServiceSettings, stall: Callable[[str], None]
) -> Iterator[dict[str, object]]:
    """Run metrics and watchdog of a service that has started; yield the facts to log."""
    facts: dict[str, object] = {}
    with ExitStack() as stack:
        if settings.metrics_port:
            registry = create_registry(
                settings.program, (*calls.metrics.collectors(), *application.collectors())
            )
            stack.enter_context(serve_metrics(registry, settings.metrics_address))
            facts["metrics"] = f"{settings.metrics_address.url}/metrics"
        stack.enter_context(
            watch_progress(application.progress(), limit=settings.watchdog_seconds, on_stall=stall)
        )
        yield facts


async def _stop_serving_when(unhealthy: asyncio.Event, health: Health, names: Sequence[str]) -> None:
    await unhealthy.wait()
    health.set(names, _NOT_SERVING)


async def _run_until_signal(settings: Settings, build: Callable[[Settings], Application]) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_loop_error)

    def on_signal() -> None:
        if stopped.is_set():
            os._exit(130)  # a second signal: stop at once, whatever is under way
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    application = build(settings)
    async with serving(application, settings, linger=settings.shutdown_linger_seconds):
        await stopped.wait()


def _options(settings: ServiceSettings) -> list[tuple[str, Any]]:
    options: list[tuple[str, float]] = [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # A few bytes would become `max_message_bytes` before anything of ours sees them, and images, vectors
        # and short texts hardly compress: a compressed message is refused by its header, UNIMPLEMENTED.
        ("grpc.compression_enabled_algorithms_bitset", _IDENTITY),
        ("grpc.max_connection_age_ms", settings.max_connection_age_seconds * 1000),
        ("grpc.max_connection_age_grace_ms", settings.max_connection_age_grace_seconds * 1000),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.max_concurrent_streams", settings.max_streams_per_connection),
        # Calls that our loop has not seen yet: gRPC would end them as CANCELLED, at random from 1,000 on.
        # Connections and the calls on each bound their number already.
        ("grpc.server.max_pending_requests", _LARGEST_OPTION),
        ("grpc.server.max_pending_requests_hard_limit", _LARGEST_OPTION),
        ("grpc.server_handshake_timeout_ms", settings.handshake_timeout_seconds * 1000),
        # The first is where refusing becomes likely, the second where it is certain: one limit, not two.
        ("grpc.max_metadata_size", settings.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_metadata_bytes),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.http2.ping_timeout_ms", 20_000),
        # However many pings come, each is answered, which costs a microsecond. What gRPC does with those that
        # come too fast costs more with each of them, until a thread has no time for other connections.
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    return [(name, int(min(value, _LARGEST_OPTION))) for name, value in options]
