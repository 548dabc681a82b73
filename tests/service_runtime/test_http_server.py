"""HTTP servers: what does not move is given up, and a stop loses no request."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from service_runtime.http_server import HEALTH, serve_http
from service_runtime.listen import bound_listener, open_sockets
from service_runtime.settings import HttpSettings

pytestmark = pytest.mark.service

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def served(application: ASGIApp, **settings: Any) -> AsyncIterator[tuple[int, asyncio.Task[bool]]]:
    """Serve until the block ends; yields the port, and what ends with the server."""
    made = HttpSettings(port=0, **settings)
    sockets = open_sockets(made.listener)
    port = getattr(bound_listener(made.listener, sockets), "port")  # noqa: B009  # no Unix socket
    serving = asyncio.create_task(serve_http(application, sockets, made))
    try:
        yield port, serving
    finally:
        if not serving.done():
            os.kill(os.getpid(), signal.SIGTERM)
        assert await asyncio.wait_for(serving, 20)


def waiting_application() -> tuple[ASGIApp, asyncio.Event, asyncio.Event]:
    """Return an application whose /slow sets the first event and waits for the second one."""
    going, arrived = asyncio.Event(), asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            arrived.set()
            await going.wait()
        await PlainTextResponse("done")(scope, receive, send)

    return application, arrived, going


async def connect(port: int, cleanup: AsyncExitStack, address: str = "127.0.0.1") -> Connection:
    """Connect from an address, also to a server that is about to listen."""
    for _ in range(100):
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, limit=2**16, local_addr=(address, 0)
            )
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
        else:
            cleanup.callback(writer.close)
            return reader, writer
    raise AssertionError("nobody listens")


async def answered(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read one answer: its head and its body."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return head, await asyncio.wait_for(reader.readexactly(int(length.partition(b":")[2])), 10)


def asked(path: str = "/", more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode()


async def test_an_answer_that_nobody_takes_is_given_up() -> None:
    ended = asyncio.Event()
    piece, pieces = b"a" * 2**20, 64

    async def large(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(pieces):
            body = {"type": "http.response.body", "body": piece, "more_body": number < pieces - 1}
            await send(body)
        ended.set()

    async with served(large, request_head_seconds=0.1) as (port, _), AsyncExitStack() as cleanup:
        reader, writer = await connect(port, cleanup)
        writer.write(asked())
        await asyncio.wait_for(ended.wait(), 20)
        taken = 0
        with suppress(ConnectionError):
            while part := await asyncio.wait_for(reader.read(2**20), 10):
                taken += len(part)
        assert 0 < taken < pieces * len(piece)


async def test_a_body_that_is_answered_is_not_received_for_ever() -> None:
    async with (
        served(PlainTextResponse("no"), request_head_seconds=0.1) as (port, _),
        AsyncExitStack() as cleanup,
    ):
        reader, writer = await connect(port, cleanup)
        writer.write(asked(more="Content-Length: 1000000\r\n") + b"a")
        assert (await answered(reader))[1] == b"no"
        assert await asyncio.wait_for(reader.read(), 10) == b""


async def test_a_stop_sends_clients_elsewhere_and_lets_requests_finish() -> None:
    application, arrived, going = waiting_application()

    async with (
        served(application, shutdown_linger_seconds=0.5) as (port, serving),
        AsyncExitStack() as cleanup,
    ):
        (slow, slow_writer), (kept, kept_writer) = [await connect(port, cleanup) for _ in range(2)]
        slow_writer.write(asked("/slow"))
        kept_writer.write(asked(HEALTH))
        assert (await answered(kept))[0].startswith(b"HTTP/1.1 200")
        await asyncio.wait_for(arrived.wait(), 10)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.05)
        # Still taken, by old connections and by new ones, each for the last time.
        kept_writer.write(asked())
        head, body = await answered(kept)
        assert body == b"done"
        assert b"connection: close" in head.lower()
        assert await asyncio.wait_for(kept.read(), 10) == b""
        asking, asking_writer = await connect(port, cleanup)
        asking_writer.write(asked(HEALTH))
        assert (await answered(asking))[0].startswith(b"HTTP/1.1 503")
        while not serving.done():
            try:
                _, late = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                break
            late.close()
            await asyncio.sleep(0.05)
        assert not serving.done()
        going.set()
        assert (await answered(slow))[1] == b"done"
        assert await asyncio.wait_for(serving, 10)


async def test_an_idle_connection_is_kept_longer_than_a_head_that_does_not_come() -> None:
    async with (
        served(PlainTextResponse("done"), request_head_seconds=0.05) as (port, _),
        AsyncExitStack() as cleanup,
    ):
        (used, used_writer), (unused, unused_writer), (slow, slow_writer) = [
            await connect(port, cleanup) for _ in range(3)
        ]
        used_writer.write(asked())
        assert (await answered(used))[1] == b"done"
        slow_writer.write(asked()[:-2])
        assert await asyncio.wait_for(slow.read(), 10) == b""
        await asyncio.sleep(0.2)
        for reader, writer in ((used, used_writer), (unused, unused_writer)):
            writer.write(asked())
            assert (await answered(reader))[1] == b"done"


async def test_an_idle_connection_ends_after_its_time() -> None:
    async with (
        served(PlainTextResponse("done"), keep_alive_seconds=0.1) as (port, _),
        AsyncExitStack() as cleanup,
    ):
        (used, used_writer), (unused, _) = [await connect(port, cleanup) for _ in range(2)]
        used_writer.write(asked())
        assert (await answered(used))[1] == b"done"
        for reader in (used, unused):
            assert await asyncio.wait_for(reader.read(), 10) == b""


async def test_idle_connections_give_way_to_new_ones_and_busy_ones_do_not() -> None:
    application, arrived, going = waiting_application()

    async with served(application, max_connections=4) as (port, _), AsyncExitStack() as cleanup:
        slow, halfway = await connect(port, cleanup), await connect(port, cleanup)
        slow[1].write(asked("/slow"))
        halfway[1].write(asked()[:-2])
        await asyncio.wait_for(arrived.wait(), 10)
        idle = []
        for address in ("127.0.0.2", "127.0.0.3"):
            idle.append(await connect(port, cleanup, address))
            idle[-1][1].write(asked())
            await answered(idle[-1][0])
        for number in range(10):
            idle.append(await connect(port, cleanup, "127.0.0.4"))
            idle[-1][1].write(asked())
            assert (await answered(idle[-1][0]))[1] == b"done"
            assert await asyncio.wait_for(idle[number][0].read(), 10) == b""
        for _, writer in idle[-2:]:
            writer.write(asked()[:-2])
        await asyncio.sleep(0.1)  # they are read by this loop
        refused = await connect(port, cleanup)
        with suppress(ConnectionError):
            assert await asyncio.wait_for(refused[0].read(), 10) == b""
        going.set()
        for reader, writer in (halfway, *idle[-2:]):
            writer.write(b"\r\n")
            assert (await answered(reader))[1] == b"done"
        assert (await answered(slow[0]))[1] == b"done"


async def test_a_stop_closes_idle_connections_while_requests_finish() -> None:
    application, arrived, going = waiting_application()

    async with (
        served(application, shutdown_linger_seconds=0, keep_alive_seconds=1000) as (port, serving),
        AsyncExitStack() as cleanup,
    ):
        (slow, slow_writer), (used, used_writer), (unused, _) = [
            await connect(port, cleanup) for _ in range(3)
        ]
        slow_writer.write(asked("/slow"))
        used_writer.write(asked())
        assert (await answered(used))[1] == b"done"
        await asyncio.wait_for(arrived.wait(), 10)
        os.kill(os.getpid(), signal.SIGTERM)
        for reader in (used, unused):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        assert not serving.done()
        going.set()
        assert (await answered(slow))[1] == b"done"
        assert await asyncio.wait_for(serving, 10)


async def test_a_request_that_does_not_end_is_cancelled_after_the_grace() -> None:
    arrived, cancelled = asyncio.Event(), asyncio.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        arrived.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with (
        served(endless, shutdown_linger_seconds=0, shutdown_grace_seconds=1) as (port, _),
        AsyncExitStack() as cleanup,
    ):
        _, writer = await connect(port, cleanup)
        writer.write(asked())
        await asyncio.wait_for(arrived.wait(), 10)
    assert cancelled.is_set()


async def test_bodies_in_very_small_chunks_come_whole_and_delay_nobody_by_all_of_them() -> None:
    order: list[int] = []

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", scope["method"] == "POST"
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        order.append(len(body))
        await PlainTextResponse(body)(scope, receive, send)

    sizes = (1, 2, 3, 500, 10_000)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked = [head + b"1\r\na\r\n" * size + b"0\r\n\r\n" for size in sizes]
    async with served(echo) as (port, _), AsyncExitStack() as cleanup:
        slow, other = await connect(port, cleanup), await connect(port, cleanup)
        gone = await connect(port, cleanup)
        gone[1].write(head + b"1\r\na\r\n" * 20_000)
        slow[1].write(b"".join([*reversed(chunked), asked()]))
        await gone[1].drain()
        gone[1].transport.abort()
        other[1].write(asked())
        assert (await answered(other[0]))[1] == b""
        bodies = [(await answered(slow[0]))[1] for _ in range(len(sizes) + 1)]
        assert bodies == [*(b"a" * size for size in reversed(sizes)), b""]
        # It came after ten thousand chunks, and was answered before they were read.
        assert order.index(0) < order.index(10_000)
