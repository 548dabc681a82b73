"""A gRPC server's life: bind, warm up, serve, drain, close."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from service_runtime.application import Application
from service_runtime.calls import CallInterceptor
from service_runtime.logging import configure_logging, get_logger
from service_runtime.settings import ServiceSettings
from service_runtime.startup import StartupError

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
Settings = TypeVar("Settings", bound=ServiceSettings)


def main(
    settings_class: type[Settings],
    build: Callable[[Settings], Application],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run a service as a process; returns its exit code: 0 after a clean stop, 1 when it cannot start."""
    # Threads of a model that wait must sleep, not spin: spinning takes the cores from decoding and from
    # other processes. Read when torch is loaded, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        settings = settings_class.load(list(sys.argv[1:] if arguments is None else arguments))
        configure_logging(settings.log_level, settings.log_format)
        asyncio.run(_run_until_signal(settings, build))
    except StartupError as error:
        print(f"{settings_class.program}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


@asynccontextmanager
async def serving(application: Application, settings: ServiceSettings) -> AsyncIterator[str]:
    """Serve until the block ends; yields "host:port". Then health turns NOT_SERVING and calls finish.

    Raises `StartupError` when the port cannot be bound or the application cannot start.
    """
    calls = CallInterceptor(max_concurrent_calls=settings.max_concurrent_calls)
    server = grpc.aio.server(interceptors=[calls], options=_options(settings))
    health = health_aio.HealthServicer()
    names = ("", *application.service_names)
    for name in names:
        # The empty name tells that the process lives; a service's name that it is ready.
        await health.set(name, _SERVING if name == "" else _NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    application.register(server)
    reflection.enable_server_reflection((*application.service_names, HEALTH, reflection.SERVICE_NAME), server)
    try:
        port = server.add_insecure_port(settings.address)
    except RuntimeError as error:
        raise StartupError(
            f"cannot listen on {settings.address}: it is in use or not an address of this machine"
        ) from error
    address = f"{settings.host}:{port}"
    await server.start()
    try:
        facts = await application.start()
        calls.ready = True
        for name in application.service_names:
            await health.set(name, _SERVING)
        get_logger().info("serving", service=settings.program, address=address, **facts)
        yield address
    finally:
        for name in names:
            await health.set(name, _NOT_SERVING)
        if calls.ready:
            get_logger().info("stopping", service=settings.program, calls_under_way=calls.running)
        await server.stop(settings.shutdown_grace_seconds)
        await application.close()


async def _run_until_signal(settings: Settings, build: Callable[[Settings], Application]) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stopped.is_set():
            os._exit(130)  # a second signal: stop at once, whatever is under way
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    application = build(settings)
    async with serving(application, settings):
        await stopped.wait()


def _options(settings: ServiceSettings) -> list[tuple[str, Any]]:
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_connection_age_ms", int(settings.max_connection_age_seconds * 1000)),
        ("grpc.max_connection_age_grace_ms", int(settings.max_connection_age_grace_seconds * 1000)),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
