"""The engines that tests run on.

- `edge`: the embedded one.
- `local`: the client's local mode, in the test's own process.
- `grpc`: the path to a server with the local mode behind it.
- `server`: the real server at `QDRANT_URL` (such as qdrant://localhost:6334), without API key and, when a
  test begins, without catalogs. Tests that kill a server start their own from the program at `QDRANT_BINARY`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest

from cir.address import parse_address
from cir_cli.local.readiness import free_ports
from tests.vector_store.grpc_stand_in import StandIn
from tests.vector_store.local_qdrant import open_local_qdrant
from vector_store import VectorStore, open_store
from vector_store.errors import StoreUnavailableError
from vector_store.qdrant.catalogs import GIVEN_OUT
from vector_store.qdrant.client import connect

_URL = os.environ.get("QDRANT_URL", "")
_SERVER = ("server",) if _URL else ()

ENGINES = ("edge", "local", *_SERVER)
#: Engines that several processes can share.
SHARED_ENGINES = ("edge", "grpc", *_SERVER)
#: Engines for suites that are too large for more than one, but where a real server is at hand.
REAL_ENGINES = ("edge", *_SERVER)
#: Servers that tests can kill.
KILLABLE = ("grpc", "server")


def server_url() -> str:
    """Return the URL of the real server; the test is skipped where there is none."""
    if not _URL:
        pytest.skip("no Qdrant server: set QDRANT_URL to run on one")
    return _URL


@asynccontextmanager
async def engine_url(name: str, folder: Path) -> AsyncIterator[str]:
    """URL of an empty store on a shared engine; a real server is emptied at the end."""
    if name == "edge":
        yield f"edge://{folder}"
    elif name == "grpc":
        async with running_server(name, folder) as server:
            yield server.url
    else:
        async with open_store(server_url()) as store:
            if found := await store.list_catalogs():
                pytest.fail(f"expected no catalogs at QDRANT_URL, found {[one.catalog for one in found]}")
            try:
                yield _URL
            finally:
                for info in await store.list_catalogs():
                    await store.delete_catalog(info.catalog)
                await _forget_versions()


async def _forget_versions() -> None:
    """Let numbers of versions begin anew, as on a server of the test's own."""
    address = parse_address(_URL.removeprefix("qdrant://"))
    client = connect(address, tls=False, api_key="", timeout_s=10)
    await client.delete_collection(GIVEN_OUT)
    await client.close()


@asynccontextmanager
async def engine(name: str, folder: Path, *, timeout_s: float = 10.0) -> AsyncIterator[VectorStore]:
    """An empty store on any engine, or the store at a URL."""
    if name == "local":
        async with open_local_qdrant() as store:
            yield store
    elif "://" in name:
        async with open_store(name, timeout_s=timeout_s) as store:
            yield store
    else:
        async with engine_url(name, folder) as url, open_store(url, timeout_s=timeout_s) as store:
            yield store


class Server(Protocol):
    """A server that can be killed, and started again with all that it had answered for."""

    url: str

    async def start(self) -> None:
        """Start it; returns when it answers."""

    async def kill(self) -> None:
        """Break all connections without a word."""


class _StandInServer:
    def __init__(self) -> None:
        self.url = ""
        self._stand_in = StandIn()

    async def start(self) -> None:
        if self.url:
            await self._stand_in.come_back()
        else:
            await self._stand_in.start()
            self.url = f"qdrant://127.0.0.1:{self._stand_in.port}"

    async def kill(self) -> None:
        await self._stand_in.go_away()


class _QdrantServer:
    def __init__(self, folder: Path) -> None:
        self._program = os.environ.get("QDRANT_BINARY", "")
        if not self._program:
            pytest.skip("no program of a Qdrant server: set QDRANT_BINARY to run and kill one")
        folder.mkdir(parents=True)
        grpc_port, http_port = free_ports(2)
        self.url = f"qdrant://127.0.0.1:{grpc_port}"
        self._folder = folder
        self._environment = {
            **os.environ,
            "QDRANT__SERVICE__HOST": "127.0.0.1",
            "QDRANT__SERVICE__GRPC_PORT": str(grpc_port),
            "QDRANT__SERVICE__HTTP_PORT": str(http_port),
            "QDRANT__STORAGE__STORAGE_PATH": str(folder / "storage"),
            "QDRANT__STORAGE__SNAPSHOTS_PATH": str(folder / "snapshots"),
            "QDRANT__TELEMETRY_DISABLED": "true",
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        path = self._folder / "log"
        with path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                self._program, cwd=self._folder, env=self._environment, stdout=log, stderr=log
            )
        async with asyncio.timeout(120), open_store(self.url, timeout_s=1) as store:
            while True:
                try:
                    await store.check()
                    return
                except StoreUnavailableError:
                    assert self._process.returncode is None, path.read_text()

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None


@asynccontextmanager
async def running_server(name: str, folder: Path) -> AsyncIterator[Server]:
    """A server of the test's own, empty: "grpc" or, from `QDRANT_BINARY`, "server"."""
    server: Server = _StandInServer() if name == "grpc" else _QdrantServer(folder)
    try:
        await server.start()
        yield server
    finally:
        await server.kill()
