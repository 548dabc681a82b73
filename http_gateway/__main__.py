"""`python -m http_gateway`: the gateway as a process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import grpc.aio
from starlette.types import ASGIApp

from cir.channel import TlsFiles, recipe
from cir.errors import InvalidArgument
from http_gateway.app import Gateway
from http_gateway.settings import GatewaySettings
from service_runtime.errors import StartupError
from service_runtime.grpcio_patch import read_events_at_once
from service_runtime.http_server import run_http


def main(arguments: list[str]) -> int:
    """Serve until SIGINT or SIGTERM; return the exit code."""
    return run_http(GatewaySettings, _open, arguments)


@asynccontextmanager
async def _open(settings: GatewaySettings) -> AsyncIterator[tuple[ASGIApp, Mapping[str, str]]]:
    tls = TlsFiles(settings.ca, settings.certificate, settings.key) if settings.ca else None
    async with AsyncExitStack() as stack:

        async def channel(address: str) -> grpc.aio.Channel:
            try:
                return await stack.enter_async_context(recipe(address, tls).open_async())
            except (OSError, InvalidArgument) as error:
                raise StartupError(f"TLS to {address}: {error}") from error

        search = await channel(settings.search)
        embedder = await channel(settings.embedder) if settings.embedder else None
        read_events_at_once(asyncio.get_running_loop())
        yield (
            Gateway(settings, search, embedder).application(),
            {"search": settings.search, "embedder": settings.embedder or ""},
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
