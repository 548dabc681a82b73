"""Prometheus metrics of an HTTP server: requests by route and status, their time, and its connections."""

from __future__ import annotations

import time
from collections.abc import Sequence

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service_runtime.metrics import SECONDS_BUCKETS
from service_runtime.settings import HttpSettings


class HttpMetrics:
    """Counts of requests and connections.

    Routes are names that the application gives, never what was sent, so there are few.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self._requests = Counter(
            "cir_http_requests",
            "Requests that have ended, by route and status; 0 is one whose client had gone.",
            ["route", "status"],
            registry=None,
        )
        self._seconds = Histogram(
            "cir_http_request_seconds",
            "Seconds from a request's head to the end of its answer.",
            ["route"],
            buckets=SECONDS_BUCKETS,
            registry=None,
        )
        self.under_way = Gauge("cir_http_requests_under_way", "Requests being answered.", registry=None)
        self._limit = Gauge("cir_http_requests_limit", "The setting max_requests.", registry=None)
        self._limit.set(settings.max_requests)
        self.connections = Gauge("cir_http_connections", "Connections that are open.", registry=None)
        self._most = Gauge("cir_http_connections_limit", "The setting max_connections.", registry=None)
        self._most.set(settings.max_connections)
        self._closed = Counter(
            "cir_http_connections_closed",
            "Connections closed for want of places: new ones (refused), and idle ones (gave_way).",
            ["reason"],
            registry=None,
        )

    def record_end(self, route: str, status: int, seconds: float) -> None:
        """Count a request that ended with a status after `seconds`."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def record_closed(self, reason: str) -> None:
        """Count a connection that had no place ("refused") or lost it ("gave_way")."""
        self._closed.labels(reason).inc()

    def collectors(self) -> Sequence[Collector]:
        """Return all of them."""
        return (
            self._requests,
            self._seconds,
            self.under_way,
            self._limit,
            self.connections,
            self._most,
            self._closed,
        )


class Measured:
    """An ASGI application around another, whose requests are counted.

    The route is what that one leaves as `call` in `scope["state"]`, else the name of the function that
    answered (Starlette's `endpoint`); what was answered before that has none.
    """

    def __init__(self, application: ASGIApp, metrics: HttpMetrics) -> None:
        self._application = application
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.under_way.inc()
        try:
            await self._application(scope, receive, answer)
        finally:
            self._metrics.under_way.dec()
            self._metrics.record_end(_route(scope), status, time.perf_counter() - started)


def _route(scope: Scope) -> str:
    state = scope.get("state") or {}
    name = state["call"] if "call" in state else getattr(scope.get("endpoint"), "__name__", "")
    return str(name)
