"""`python -m http_gateway`: the gateway as a process."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

import grpc.aio

from cir.address import Address
from cir.channel import TlsFiles, recipe
from cir.errors import InvalidArgument
from http_gateway.app import Gateway
from http_gateway.settings import GatewaySettings
from service_runtime.errors import StartupError
from service_runtime.http_server import serve_http
from service_runtime.listen import bound_listener, open_sockets, remove_socket
from service_runtime.logging import capture_libraries, configure_logging, get_logger, log_loop_error

_MAX_CONNECTIONS = 1024
_HEAD_SECONDS = 10.0


def main(arguments: list[str]) -> int:
    """Serve until SIGINT or SIGTERM; return the exit code."""
    try:
        settings = GatewaySettings.load(arguments)
        configure_logging(settings.log_level, settings.log_format)
        capture_libraries(settings.log_level)
        return asyncio.run(_serve(settings))
    except StartupError as error:
        print(f"http_gateway: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


async def _serve(settings: GatewaySettings) -> int:
    asyncio.get_running_loop().set_exception_handler(log_loop_error)
    tls = TlsFiles(settings.ca, settings.certificate, settings.key) if settings.ca else None
    async with AsyncExitStack() as stack:

        async def channel(address: str) -> grpc.aio.Channel:
            try:
                return await stack.enter_async_context(recipe(address, tls).open_async())
            except (OSError, InvalidArgument) as error:
                raise StartupError(f"TLS to {address}: {error}") from error

        search = await channel(settings.search)
        embedder = await channel(settings.embedder) if settings.embedder else None
        listener = settings.listener
        sockets = open_sockets(listener)
        bound = bound_listener(listener, sockets)
        address = bound.url if isinstance(bound, Address) else str(bound)
        get_logger().info(
            "serving", address=address, search=settings.search, embedder=settings.embedder or ""
        )
        try:
            started = await serve_http(
                Gateway(settings, search, embedder).application(),
                sockets,
                max_requests=settings.max_requests,
                max_connections=_MAX_CONNECTIONS,
                head_seconds=_HEAD_SECONDS,
                grace_seconds=settings.shutdown_grace_seconds,
            )
        finally:
            remove_socket(listener)
    return 0 if started else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
