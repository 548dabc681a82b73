"""The metrics' port: the collector is served whatever else is connected."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from prometheus_client import CollectorRegistry, Gauge

from service_runtime import metrics_server
from service_runtime.metrics_server import MAX_CONNECTIONS, MetricsServer

pytestmark = pytest.mark.service


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server with one gauge."""
    registry = CollectorRegistry()
    Gauge("cir_things", "Things.", registry=registry).set(7)
    server = MetricsServer("127.0.0.1", 0, registry)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def test_connections_that_say_nothing_or_little_make_room_for_the_collector(port: int) -> None:
    before = threading.active_count()
    with ExitStack() as stack:
        for number in range(10 * MAX_CONNECTIONS):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            if number % 2:
                connection.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")
        assert "cir_things 7.0" in scrape(port)
        assert threading.active_count() <= before + 2 * MAX_CONNECTIONS
    assert "cir_things 7.0" in scrape(port)


def test_a_connection_that_says_nothing_is_closed(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server._Handler, "timeout", 0.2)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as silent:
        assert silent.recv(100) == b""
