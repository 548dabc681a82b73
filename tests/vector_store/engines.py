"""The engines that tests run on: embedded, the client's local mode, and a real server where one is at hand.

A real server is the one at `QDRANT_URL` (such as qdrant://localhost:6334), without API key and, when a test
begins, without catalogs. Tests that kill a server start their own from the program at `QDRANT_BINARY`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cir_cli.local.readiness import free_ports
from tests.vector_store.local_qdrant import open_local_qdrant
from vector_store import VectorStore, open_store
from vector_store.errors import StoreUnavailableError

_URL = os.environ.get("QDRANT_URL", "")
_SERVER = ("server",) if _URL else ()

#: Engines that services in processes of their own can share.
SHARED_ENGINES = ("edge", *_SERVER)
ENGINES = ("edge", "local", *_SERVER)


def server_url() -> str:
    """Return the URL of the real server; the test is skipped where there is none."""
    if not _URL:
        pytest.skip("no Qdrant server: set QDRANT_URL to run on one")
    return _URL


@asynccontextmanager
async def engine_url(name: str, folder: Path) -> AsyncIterator[str]:
    """URL of an empty store on an engine of `SHARED_ENGINES`; a server is emptied at the end."""
    if name == "edge":
        yield f"edge://{folder}"
        return
    async with open_store(server_url()) as store:
        if found := await store.list_catalogs():
            pytest.fail(
                f"QDRANT_URL: expected a server without catalogs, it has {[c.catalog for c in found]}"
            )
        try:
            yield _URL
        finally:
            for info in await store.list_catalogs():
                await store.delete_catalog(info.catalog)


@asynccontextmanager
async def engine(name: str, folder: Path, *, timeout_s: float = 10.0) -> AsyncIterator[VectorStore]:
    """An empty store on an engine of `ENGINES`, or the store at a URL."""
    if name == "local":
        async with open_local_qdrant() as store:
            yield store
    elif name == "server":
        async with engine_url(name, folder) as url, open_store(url, timeout_s=timeout_s) as store:
            yield store
    else:
        url = f"edge://{folder}" if name == "edge" else name
        async with open_store(url, timeout_s=timeout_s) as store:
            yield store


class QdrantServer:
    """A server of the test's own, from the program at `QDRANT_BINARY`; the test is skipped without it."""

    def __init__(self, folder: Path) -> None:
        self._program = os.environ.get("QDRANT_BINARY", "")
        if not self._program:
            pytest.skip("no program of a Qdrant server: set QDRANT_BINARY to run and kill one")
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        grpc_port, http_port = free_ports(2)
        self.url = f"qdrant://127.0.0.1:{grpc_port}"
        self._environment = {
            **os.environ,
            "QDRANT__SERVICE__HOST": "127.0.0.1",
            "QDRANT__SERVICE__GRPC_PORT": str(grpc_port),
            "QDRANT__SERVICE__HTTP_PORT": str(http_port),
            "QDRANT__STORAGE__STORAGE_PATH": str(folder / "storage"),
            "QDRANT__STORAGE__SNAPSHOTS_PATH": str(folder / "snapshots"),
            "QDRANT__TELEMETRY_DISABLED": "true",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server on what it stored before; it answers a moment later."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program], cwd=self._folder, env=self._environment, stdout=log, stderr=log
            )

    async def ready(self) -> None:
        """Wait until the server answers."""
        async with asyncio.timeout(120), open_store(self.url, timeout_s=1) as store:
            while True:
                try:
                    await store.check()
                    return
                except StoreUnavailableError:
                    assert self._process is not None
                    assert self._process.poll() is None, (self._folder / "log").read_text()

    def kill(self) -> None:
        """Kill the server with SIGKILL; one that does not run is ignored."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@asynccontextmanager
async def running_server(folder: Path) -> AsyncIterator[QdrantServer]:
    """A server of the test's own that answers."""
    server = QdrantServer(folder)
    server.start()
    try:
        await server.ready()
        yield server
    finally:
        server.kill()
