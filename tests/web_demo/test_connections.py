"""Slow and many connections to the page: bounded, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from cir_cli.local.readiness import free_ports
from service_runtime.http_server import MAX_HEAD_BYTES, Busy
from tests.web_demo.test_log_contents import status
from web_demo.state import MAX_PARAMETERS

ROOT = Path(__file__).resolve().parents[2]
HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


@contextmanager
def page(folder: Path, **settings: str) -> Iterator[int]:
    """Run the page without a search service; yield its port."""
    port = free_ports(1)[0]
    values = {"PORT": str(port), "DATA": str(folder / "data"), **settings}
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "web_demo"],
            cwd=ROOT,
            stderr=output,
            env=os.environ
            | {"PYTHONPATH": str(ROOT)}
            | {f"CIR_DEMO_{name}": value for name, value in values.items()},
        )
    try:
        while status(f"http://127.0.0.1:{port}/healthz") != 200:
            assert process.poll() is None, (folder / "output").read_text()
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(60)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def ended(connection: socket.socket) -> bytes:
    """Return what comes until the other side closes; the test fails if it does not within ten seconds."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionError:
        pass
    return received


@pytest.mark.service
def test_a_head_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    settings = {"REQUEST_HEAD_SECONDS": "0.5", "KEEP_ALIVE_SECONDS": "1"}
    with page(tmp_path, **settings) as port, ExitStack() as stack:
        silent, slow, later = (stack.enter_context(connect(port)) for _ in range(3))
        slow.sendall(HEAD)
        later.sendall(HEAD + b"\r\n")
        assert b"200 OK" in later.recv(65536)
        later.sendall(HEAD)
        for connection in (silent, slow, later):
            assert b"200 OK" not in ended(connection)


@pytest.mark.service
def test_connections_over_their_number_make_room_for_others(tmp_path: Path) -> None:
    with page(tmp_path, MAX_CONNECTIONS="20") as port, ExitStack() as stack:
        silent = [stack.enter_context(connect(port)) for _ in range(60)]
        assert [ended(one) for one in silent[:40]] == [b""] * 40
        slow = silent[-16:]
        for one in slow:
            one.sendall(HEAD)
        assert [status(f"http://127.0.0.1:{port}/healthz") for _ in range(5)] == [200] * 5
        for one in slow:
            one.sendall(b"\r\n")
            assert b"200 OK" in one.recv(65536)


@pytest.mark.service
def test_a_large_head_is_refused(tmp_path: Path) -> None:
    with page(tmp_path) as port, connect(port) as connection:
        connection.sendall(HEAD + b"X-Large: " + b"a" * (2 * MAX_HEAD_BYTES))
        assert ended(connection).startswith(b"HTTP/1.1 400")
        # Nor are the parameters of an address read where a conversation has fewer.
        many = httpx.get(f"http://127.0.0.1:{port}/?{'a&' * MAX_PARAMETERS}", timeout=30)
        assert (many.status_code, many.text) == (400, f"an address has at most {MAX_PARAMETERS} parameters")
        assert status(f"http://127.0.0.1:{port}/healthz") == 200


async def test_requests_over_their_number_are_told_so() -> None:
    going = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await going.wait()
        await PlainTextResponse("done")(scope, receive, send)

    busy = Busy(slow, 2, PlainTextResponse("busy", 503))
    first = [asyncio.create_task(ask(busy)) for _ in range(2)]
    await asyncio.sleep(0)
    assert await ask(busy) == 503
    going.set()
    assert await asyncio.gather(*first) == [200, 200]
    assert await ask(busy) == 200


async def test_one_client_has_few_requests_at_a_time_and_keeps_no_other_out() -> None:
    going = asyncio.Event()
    begun: list[str] = []

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        begun.append(scope["client"][0])
        await going.wait()
        await PlainTextResponse("done")(scope, receive, send)

    busy = Busy(slow, 16, PlainTextResponse("busy", 503), each=3)
    many = [asyncio.create_task(ask(busy, "10.0.0.1")) for _ in range(14)]
    await rounds(9)
    assert begun == ["10.0.0.1"] * 3
    assert await ask(busy, "10.0.0.1") == 503
    other = asyncio.create_task(ask(busy, "10.0.0.2"))
    await rounds(3)
    assert begun[3:] == ["10.0.0.2"]
    going.set()
    assert await asyncio.gather(*many, other) == [200] * 15


async def rounds(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("many", [1, 40])
async def test_requests_that_wait_for_nothing_begin_by_turns_of_clients(many: int) -> None:
    begun: list[str] = []

    async def quick(scope: Any, receive: Any, send: Any) -> None:
        begun.append(scope["client"][0])
        await PlainTextResponse("done")(scope, receive, send)

    busy = Busy(quick, 128, PlainTextResponse("busy", 503))
    requests = [asyncio.create_task(ask(busy, "10.0.0.1")) for _ in range(many)]
    given_up = asyncio.create_task(ask(busy, "10.0.0.3"))
    other = asyncio.create_task(ask(busy, "10.0.0.2"))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await asyncio.gather(*requests, other) == [200] * (many + 1)
    assert begun.index("10.0.0.2") <= 2
    assert sorted(begun) == ["10.0.0.1"] * many + ["10.0.0.2"]
    # The next one finds nobody before it.
    assert await ask(busy, "10.0.0.3") == 200


async def test_addresses_of_many_parameters_are_not_read_and_health_is_one_address() -> None:
    reached: list[str] = []

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["path"])
        await PlainTextResponse("done")(scope, receive, send)

    busy = Busy(answer, 0, PlainTextResponse("busy", 503), prefix="/try", parameters=40)
    assert await ask(busy, query=b"a&" * 40) == 400
    assert await ask(busy, query=b"a&" * 39) == 503
    # An item may be called so, too.
    assert await ask(busy, path="/v1/catalogs/shop/items/healthz") == 503
    assert [await ask(busy, path=path) for path in ("/healthz", "/try/healthz")] == [200, 200]
    assert reached == ["/healthz", "/try/healthz"]


async def ask(application: ASGIApp, client: str = "10.0.0.1", *, path: str = "/", query: bytes = b"") -> int:
    """Return the status of a request."""
    sent: list[Any] = []

    async def nothing() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": query, "client": (client, 4242)}
    await application(scope, nothing, send)
    return int(sent[0]["status"])


@pytest.mark.service
@pytest.mark.parametrize(
    ("proxies", "statuses"), [('["127.0.0.1"]', [400, 400, 429]), ('["10.0.0.1"]', [400, 429, 429])]
)
def test_clients_are_told_apart_by_the_word_of_trusted_proxies_alone(
    tmp_path: Path, proxies: str, statuses: list[int]
) -> None:
    with page(tmp_path, PROXIES=proxies, UPLOADS_PER_MINUTE="1") as port:
        found = []
        for client in ("203.0.113.1", "203.0.113.2", "203.0.113.1"):
            headers = {"X-Forwarded-For": client}
            answer = httpx.post(
                f"http://127.0.0.1:{port}/go", files={"picture": b"no picture"}, headers=headers, timeout=30
            )
            found.append(answer.status_code)
        assert found == statuses
