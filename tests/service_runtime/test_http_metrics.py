"""Metrics of an HTTP server, through its metrics port."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from cir_cli.local.readiness import free_ports
from service_runtime.errors import StartupError
from service_runtime.http_server import serve_http
from service_runtime.listen import open_sockets
from service_runtime.settings import HttpSettings
from tests.service_runtime.test_http_server import answered, asked, connect, served
from tests.service_runtime.test_observability import scrape

pytestmark = pytest.mark.service


async def test_requests_are_counted_by_route_and_status_and_connections_by_what_became_of_them() -> None:
    going, arrived = asyncio.Event(), asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].startswith("/known"):
            scope["state"]["call"] = "known"
        if scope["path"] == "/known/slow":
            arrived.set()
            await going.wait()
        status = 200 if scope["path"].startswith("/known") else 404
        await PlainTextResponse("done", status)(scope, receive, send)

    metrics = free_ports(1)[0]
    async with (
        served(application, max_connections=2, metrics_port=metrics) as (port, _),
        AsyncExitStack() as cleanup,
    ):
        slow, other = [await connect(port, cleanup) for _ in range(2)]
        for path in ("/known/1", "/known/2", "/made-up-by-a-client"):
            other[1].write(asked(path))
            await answered(other[0])
        slow[1].write(asked("/known/slow"))
        await asyncio.wait_for(arrived.wait(), 10)
        third = await connect(port, cleanup)
        third[1].write(asked()[:-2])
        assert await asyncio.wait_for(other[0].read(), 10) == b""
        await asyncio.sleep(0.1)  # what was sent is read by this loop
        refused = await connect(port, cleanup)
        with suppress(ConnectionError):
            assert await asyncio.wait_for(refused[0].read(), 10) == b""
        found = await asyncio.to_thread(scrape, metrics)
        going.set()
        await answered(slow[0])
        after = await asyncio.to_thread(scrape, metrics)

    def requests(samples: Any, route: str, status: str) -> float:
        return float(samples[("cir_http_requests_total", (("route", route), ("status", status)))])

    assert (requests(found, "known", "200"), requests(found, "", "404")) == (2, 1)
    assert requests(after, "known", "200") == 3
    assert found[("cir_http_request_seconds_count", (("route", "known"),))] == 2
    assert (found[("cir_http_requests_under_way", ())], after[("cir_http_requests_under_way", ())]) == (1, 0)
    assert (found[("cir_http_requests_limit", ())], found[("cir_http_connections_limit", ())]) == (128, 2)
    assert found[("cir_http_connections", ())] == 2
    for reason in ("refused", "gave_way"):
        assert found[("cir_http_connections_closed_total", (("reason", reason),))] == 1
    assert not [labels for _, labels in after if "made-up" in str(labels)]
    assert [labels for name, labels in found if name == "cir_service_info"]


async def test_a_metrics_port_that_is_taken_is_a_startup_error() -> None:
    port = free_ports(1)[0]
    settings = HttpSettings(port=0, metrics_port=port)
    sockets = open_sockets(settings.listener)
    async with served(PlainTextResponse("done"), metrics_port=port) as (http, _), AsyncExitStack() as cleanup:
        await connect(http, cleanup)
        with pytest.raises(StartupError, match=f"metrics cannot listen on 127.0.0.1:{port}"):
            await serve_http(PlainTextResponse("done"), sockets, settings)
    for each in sockets:
        each.close()
