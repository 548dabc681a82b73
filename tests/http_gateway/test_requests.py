"""What holds for each request, whatever it asks: ids, the log, verbs, bodies, overload, clients that go."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from cir.common.v1 import errors_pb2
from http_gateway.app import Gateway
from service_runtime.errors import ServiceError
from tests.http_gateway.conftest import gateway
from tests.search_service.conftest import Stack

pytestmark = pytest.mark.service

MARK = "secret7f3a"
SEARCH = "/v1/catalogs/shop:search"
TEXT = {"turns": [{"text": "a dress"}]}


async def test_a_request_has_one_id_in_every_log_and_in_its_answer(
    web: httpx.AsyncClient, stack: Stack
) -> None:
    with capture_logs() as logs:
        answer = await web.post(SEARCH, json=TEXT, headers={"x-request-id": "order-17"})
    assert answer.headers["x-request-id"] == "order-17"
    assert stack.embedder.request_ids[-1] == "order-17"
    (line,) = [line for line in logs if line["event"] == "request"]
    assert line["request_id"] == "order-17"
    assert (line["verb"], line["call"]) == ("POST", "/cir.search.v1.SearchService/Search")
    assert line["status"] == 200
    made = [(await web.get("/v1/catalogs", headers={"x-request-id": bad})) for bad in ("", "a b", "x" * 200)]
    ids = {one.headers["x-request-id"] for one in made}
    assert len(ids) == 3
    assert all(len(one) == 32 for one in ids)


@pytest.mark.parametrize("fails", [False, True])
async def test_the_log_says_nothing_of_what_was_sent(
    web: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fails: bool,
) -> None:
    if fails:
        monkeypatch.setattr(Gateway, "_metadata", lambda *_: int(MARK))
    headers = {"x-api-key": MARK, "user-agent": MARK, "x-request-id": f"{MARK} ", "x-timeout-seconds": MARK}
    capsys.readouterr()
    answers = [
        await web.post(f"/v1/catalogs/{MARK}:search?{MARK}={MARK}", json={"turns": [{"text": MARK}]}),
        await web.post(SEARCH, json={"turns": [{"text": MARK}]}, headers=headers),
        await web.post(SEARCH, json={MARK: MARK}, headers=headers),
        await web.request(MARK.upper(), f"/{MARK}", headers=headers),
    ]
    written = capsys.readouterr().err
    assert MARK.lower() not in written.lower()
    assert len(re.findall(r"\] request  ", written)) == len(answers)
    assert ("ValueError" in written) is fails
    assert 500 in [one.status_code for one in answers] or not fails
    for one in answers:
        assert one.json()["message"]
        assert one.headers["x-request-id"]


async def test_verbs_are_those_of_the_address(web: httpx.AsyncClient) -> None:
    got, head = [await web.request(verb, "/v1/catalogs/shop") for verb in ("GET", "HEAD")]
    assert head.status_code == 200
    assert head.headers["content-length"] == got.headers["content-length"]
    for path, allow in (
        ("/v1/catalogs/shop", "DELETE, GET, HEAD, OPTIONS"),
        (SEARCH, "OPTIONS, POST"),
        ("/v1/embeddings", "OPTIONS, POST"),
        ("/docs", "GET, HEAD, OPTIONS"),
    ):
        options = await web.options(path)
        assert (options.status_code, options.headers["allow"]) == (204, allow)
        refused = await web.put(path)
        assert (refused.status_code, refused.headers["allow"]) == (405, allow)
        assert refused.json()["code"] == 12
        assert refused.json()["details"][0]["reason"] == "NOT_SERVED"
    assert (await web.options("/v1/nothing")).status_code == 404
    assert (await web.request("TRACE", "/v1/catalogs")).status_code == 405


async def test_bodies_that_are_compressed_late_or_of_other_kinds_are_refused(stack: Stack) -> None:
    async def late() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    plain = {"content-type": "application/json"}
    async with AsyncExitStack() as cleanup:
        web = await gateway(cleanup, stack.address, body_seconds=0.1)
        compressed = gzip.compress(json.dumps(TEXT).encode())
        for headers, content, status in (
            (plain | {"content-encoding": "gzip"}, compressed, 415),
            (plain | {"content-encoding": "identity"}, json.dumps(TEXT).encode(), 200),
            ({"content-type": "application/json; charset=utf-8"}, json.dumps(TEXT).encode(), 200),
            ({"content-type": "application/x-www-form-urlencoded"}, b"a=b", 415),
            ({}, b"{}", 415),
            (plain, late(), 408),
        ):
            answer = await web.post(SEARCH, content=content, headers=headers)
            assert answer.status_code == status, answer.text
            assert "message" in answer.json() or status == 200


async def test_too_many_requests_are_told_to_come_again_and_health_is_not(stack: Stack) -> None:
    stack.embedder.gate = asyncio.Event()
    async with AsyncExitStack() as cleanup:
        web = await gateway(cleanup, stack.address, max_requests=1)
        first = asyncio.create_task(web.post(SEARCH, json=TEXT))
        await stack.embedder.arrivals.get()
        refused = await web.get("/v1/catalogs")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["details"][0]["reason"] == "OVERLOADED"
        assert (await web.get("/healthz")).status_code == 200
        stack.embedder.gate.set()
        assert (await first).status_code == 200
        assert (await web.get("/v1/catalogs")).status_code == 200


async def test_what_a_service_has_too_much_of_is_429_with_a_time(stack: Stack) -> None:
    stack.embedder.refuse = ServiceError(errors_pb2.OVERLOADED, "busy", retry_after=2.5)
    async with AsyncExitStack() as cleanup:
        web = await gateway(cleanup, stack.address)
        answer = await web.post(SEARCH, json=TEXT)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert answer.json()["details"][0]["reason"] == "OVERLOADED"


async def test_one_client_has_few_calls_with_the_services_and_keeps_no_other_waiting(stack: Stack) -> None:
    stack.embedder.gate = asyncio.Event()
    async with AsyncExitStack() as cleanup:
        web = await gateway(cleanup, stack.address, calls_of_a_client=2)
        application: Any = web._transport.app  # type: ignore[attr-defined]  # of clients at several addresses
        many, other = [
            await cleanup.enter_async_context(
                httpx.AsyncClient(
                    transport=httpx.ASGITransport(application, client=(address, 4242)), base_url="http://x"
                )
            )
            for address in ("10.0.0.1", "10.0.0.2")
        ]

        async def ask(client: httpx.AsyncClient, text: str, **headers: str) -> int:
            body = {"turns": [{"text": text}]}
            return (await client.post(SEARCH, json=body, headers=headers, timeout=30)).status_code

        asking = [asyncio.create_task(ask(many, f"dress {number}")) for number in range(6)]
        for _ in range(2):
            await stack.embedder.arrivals.get()
        late = await many.post(SEARCH, json=TEXT, headers={"x-timeout-seconds": "0.05"}, timeout=30)
        assert (late.status_code, late.json()["details"][0]["reason"]) == (504, "DEADLINE")
        kind = {"content-type": "application/grpc-web+proto", "grpc-timeout": "50m"}
        late = await many.post("/cir.search.v1.SearchService/Search", content=bytes(5), headers=kind)
        assert b"grpc-status: 4" in late.content
        asking.append(asyncio.create_task(ask(other, "coat")))
        await asyncio.wait_for(stack.embedder.arrivals.get(), 10)
        assert stack.embedder.arrivals.empty()
        stack.embedder.gate.set()
        assert await asyncio.gather(*asking) == [200] * 7


async def test_a_call_ends_with_the_client_that_asked(stack: Stack, web: httpx.AsyncClient) -> None:
    stack.embedder.gate = asyncio.Event()
    application: Any = web._transport.app  # type: ignore[attr-defined]  # httpx itself never goes away
    gone, sent = asyncio.Event(), []
    content = json.dumps(TEXT).encode()
    scope = {
        "type": "http",
        "method": "POST",
        "path": SEARCH,
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    messages = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asking = asyncio.create_task(application(scope, receive, send))
    await stack.embedder.arrivals.get()
    gone.set()
    await asyncio.wait_for(asking, 10)
    assert sent[0]["status"] == 499
    await asyncio.wait_for(stack.embedder.cancelled.wait(), 10)
