"""Clients and where they live: event loops, forks, servers that restart, closing."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from cir.async_client import AsyncClient
from cir.channel import call_timeout
from cir.client import Client
from cir.errors import CirError, DeadlineExceeded, FailedPrecondition, InvalidArgument
from cir.search.v1 import search_pb2
from tests.cir.fake_search import FakeSearch, fake_search

pytestmark = pytest.mark.service

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def address(search_service: FakeSearch) -> str:
    search_service.answers["GetSearchInfo"] = search_pb2.GetSearchInfoResponse(version="7")
    return search_service.address


async def ask(client: AsyncClient) -> str:
    return (await client.info()).version


def test_a_client_built_before_any_loop_serves_each_that_comes(address: str) -> None:
    client = AsyncClient(address)
    assert asyncio.run(ask(client)) == "7"
    assert asyncio.run(ask(client)) == "7"
    second = AsyncClient(address)
    assert asyncio.run(ask(second)) == "7"
    asyncio.run(client.close())
    asyncio.run(second.close())


def test_a_client_of_a_module_serves_an_application_under_uvicorn(address: str) -> None:
    import uvicorn

    client = AsyncClient(address)

    async def version(_request: Request) -> Response:
        return PlainTextResponse(await ask(client))

    application = Starlette(routes=[Route("/", version)])
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        from http.client import HTTPConnection

        with closing(HTTPConnection("127.0.0.1", port)) as connection:
            for _ in range(2):
                connection.request("GET", "/")
                answer = connection.getresponse()
                assert (answer.status, answer.read()) == (200, b"7")
    finally:
        server.should_exit = True
        thread.join()


async def test_loops_of_other_threads_have_connections_of_their_own(address: str) -> None:
    client = AsyncClient(address)
    for _ in range(3):
        here = asyncio.gather(*(ask(client) for _ in range(10)))
        there = asyncio.to_thread(lambda: asyncio.run(ask(client)))
        assert await there == "7"
        assert await here == ["7"] * 10
    await client.close()


async def test_closing_reaches_loops_of_other_threads(address: str) -> None:
    client = AsyncClient(address)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        assert asyncio.run_coroutine_threadsafe(ask(client), loop).result(10) == "7"
        assert await ask(client) == "7"
        await client.close()
        with pytest.raises(FailedPrecondition, match="this client is closed"):
            asyncio.run_coroutine_threadsafe(ask(client), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def test_a_closed_client_says_so(address: str) -> None:
    client = Client(address)
    never_used, used = AsyncClient(address), AsyncClient(address)
    assert client.info().version == await ask(used) == "7"
    for _ in range(2):
        client.close()
        await never_used.close()
        await used.close()
    with pytest.raises(FailedPrecondition, match="this client is closed; make a new one"):
        client.info()
    for one in (never_used, used):
        with pytest.raises(FailedPrecondition, match="this client is closed"):
            await one.info()


@pytest.fixture
def held(search_service: FakeSearch) -> Any:
    """An answer that comes when the test is over."""
    released, arrived = threading.Event(), threading.Event()

    def wait(_request: object, _context: object) -> Message:
        arrived.set()
        released.wait(20)
        return search_pb2.GetSearchInfoResponse()

    search_service.answers["GetSearchInfo"] = wait
    yield arrived
    released.set()


async def test_closing_ends_calls_under_way_with_an_error_of_ours(
    search_service: FakeSearch, held: threading.Event
) -> None:
    client = AsyncClient(search_service.address)
    call = asyncio.ensure_future(client.info())
    await asyncio.to_thread(held.wait, 10)
    await client.close()
    with pytest.raises(CirError) as caught:
        await call
    assert caught.value.code is grpc.StatusCode.CANCELLED

    held.clear()
    blocking = Client(search_service.address)
    blocked = asyncio.create_task(asyncio.to_thread(blocking.info))
    await asyncio.to_thread(held.wait, 10)
    blocking.close()
    with pytest.raises(CirError) as caught:
        await blocked
    assert caught.value.code is grpc.StatusCode.CANCELLED


async def test_who_cancels_a_call_gets_its_cancellation(
    search_service: FakeSearch, held: threading.Event
) -> None:
    async with AsyncClient(search_service.address) as client:
        call = asyncio.ensure_future(client.info())
        await asyncio.to_thread(held.wait, 10)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.info(), 0.2)


@pytest.mark.parametrize("timeout", [math.inf, 1e12, 1e300, 10**400, 1e9, 1e8, 30])
def test_however_long_a_call_may_take_it_is_made(address: str, timeout: float) -> None:
    with Client(address, timeout=timeout) as client:
        assert client.info().version == "7"
        assert client.info(timeout=timeout).version == "7"
    assert (call_timeout(timeout) is None) is (timeout > 1e8)


@pytest.mark.parametrize("timeout", [0, 0.0, -1, -math.inf, math.nan, True, "5", None])
async def test_a_timeout_that_is_none_is_refused_before_anything_is_sent(
    search_service: FakeSearch, address: str, timeout: Any
) -> None:
    with pytest.raises(InvalidArgument, match=r"timeout is .*; expected seconds above 0, or math\.inf"):
        Client(address, timeout=timeout)
    with pytest.raises(InvalidArgument, match="timeout is"):
        AsyncClient(address, timeout=timeout)
    if timeout is not None:  # that of the client
        with Client(address) as client, pytest.raises(InvalidArgument, match="timeout is"):
            client.info(timeout=timeout)
        async with AsyncClient(address) as one:
            with pytest.raises(InvalidArgument, match="timeout is"):
                await one.info(timeout=timeout)
    assert search_service.requests == []


def test_a_time_that_is_too_short_is_a_deadline(search_service: FakeSearch, held: threading.Event) -> None:
    with Client(search_service.address) as client, pytest.raises(DeadlineExceeded):
        client.info(timeout=1e-6)


async def test_clients_outlive_the_server() -> None:
    """The same clients, over restarts of the only server on its port."""
    with fake_search() as fake:
        port = int(fake.address.rpartition(":")[2])
        fake.answers["GetSearchInfo"] = search_pb2.GetSearchInfoResponse(version="0")
        blocking = Client(fake.address, wait_for_ready=True)
        waiting = AsyncClient(fake.address, wait_for_ready=True)
        assert blocking.info().version == await ask(waiting) == "0"
    for number in ("1", "2"):
        with fake_search(port) as fake:
            fake.answers["GetSearchInfo"] = search_pb2.GetSearchInfoResponse(version=number)
            assert await asyncio.to_thread(lambda: blocking.info().version) == number
            assert await ask(waiting) == number
    blocking.close()
    await waiting.close()


_FORKED = """
import asyncio, multiprocessing, os, sys, threading, time
from cir import AsyncClient, CirError, Client

address, mode = sys.argv[1:]
client, waiting = Client(address), AsyncClient(address)
# A client of both kinds that the parent uses or only builds.
ask = lambda: client.info().version
ask_async = lambda: asyncio.run(version())

async def version():
    return (await waiting.info()).version

def child(results):
    for call in (ask, ask_async, ask, ask_async):
        try:
            results.put(call())
        except CirError as error:
            results.put(error.message)

if mode not in ("built", "open"):
    print(ask(), ask_async())
if mode == "open":
    loop = asyncio.new_event_loop()
    print(ask(), loop.run_until_complete(version()))
if mode == "amid":
    threading.Thread(target=lambda: client.search("shop", text="held"), daemon=True).start()
    sys.stdin.readline()
fork = multiprocessing.get_context("fork")
results = fork.SimpleQueue()
children = [fork.Process(target=child, args=(results,)) for _ in range(3)]
for one in children:
    one.start()
for one in children:
    one.join()
    print("exit", one.exitcode)
while not results.empty():
    print(results.get())
if mode == "open":
    print(ask(), loop.run_until_complete(version()))
    loop.close()
else:
    print(ask(), ask_async())
"""


def forked(address: str, mode: str, arrived: threading.Event | None = None) -> list[str]:
    """Return what a process that forks workers printed."""
    command = [sys.executable, "-W", "error", "-c", _FORKED, address, mode]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, text=True, cwd=_ROOT, **pipes) as process:
        try:
            if arrived is not None:
                arrived.wait(20)
            out, errors = process.communicate("\n", timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    return list(out.splitlines())


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize("mode", ["built", "used"])
def test_workers_that_were_forked_connect_for_themselves(address: str, mode: str) -> None:
    """As under gunicorn with preload_app: built in the master, and even used there."""
    lines = forked(address, mode)
    assert lines == [*(["7 7"] if mode == "used" else []), *["exit 0"] * 3, *["7"] * 12, "7 7"]


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_fork_amid_connections_of_asyncio_is_named(address: str) -> None:
    lines = forked(address, "open")
    assert lines[:4] == lines[-1:] + ["exit 0"] * 3 == ["7 7", *["exit 0"] * 3]
    assert sorted(lines[4:-1])[:6] == ["7"] * 6
    refused = [line for line in lines[4:-1] if line != "7"]
    assert len(refused) == 6
    assert all("forked while an asyncio client had connections" in line for line in refused)


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_fork_in_the_middle_of_a_call_is_named(address: str, search_service: FakeSearch) -> None:
    arrived, released = threading.Event(), threading.Event()

    def wait(_request: object, _context: object) -> Message:
        arrived.set()
        released.wait(30)
        return search_pb2.SearchResponse()

    search_service.answers["Search"] = wait
    try:
        lines = forked(address, "amid", arrived)
    finally:
        released.set()
    assert lines[:4] == ["7 7", *["exit 0"] * 3]
    assert len(lines[4:-1]) == 12
    assert all("forked while another thread was in a call" in line for line in lines[4:-1])
    assert lines[-1] == "7 7"
