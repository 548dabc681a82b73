"""Prometheus metrics: of the calls, of the process, and of the service's own parts, on their own port."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.registry import Collector

from cir.address import Address
from service_runtime.errors import StartupError
from service_runtime.metrics_server import MetricsServer
from service_runtime.settings import software_version

# From a cached lookup to a bulk call that waits its turn.
SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)


class CallMetrics:
    """Counts of the call interceptor. Methods become labels only when they are served, so there are few."""

    def __init__(self, *, running: Callable[[], int], limit: int) -> None:
        self._calls = Counter(
            "cir_calls", "Calls that have ended, by gRPC code.", ["method", "code"], registry=None
        )
        self._seconds = Histogram(
            "cir_call_seconds",
            "Seconds from a call's arrival to its end.",
            ["method"],
            buckets=SECONDS_BUCKETS,
            registry=None,
        )
        self._refusals = Counter(
            "cir_refusals", "Calls refused with a reason of the contract.", ["reason"], registry=None
        )
        self._running = Gauge("cir_calls_under_way", "Calls being worked on.", registry=None)
        self._running.set_function(running)
        self._limit = Gauge("cir_calls_limit", "The setting max_concurrent_calls.", registry=None)
        self._limit.set(limit)

    def record_end(self, method: str, code: str, seconds: float) -> None:
        """Count a call that ended with a code ("OK", "INVALID_ARGUMENT", ...) after `seconds`."""
        self._calls.labels(method, code).inc()
        self._seconds.labels(method).observe(seconds)

    def record_refusal(self, reason: str) -> None:
        """Count a refused call by the name of its ErrorReason."""
        self._refusals.labels(reason).inc()

    def collectors(self) -> Sequence[Collector]:
        """Return all of them."""
        return (self._calls, self._seconds, self._refusals, self._running, self._limit)


def create_registry(service: str, collectors: Sequence[Collector]) -> CollectorRegistry:
    """Create a registry with the given metrics, those of the process, and the software's version."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    version = Gauge(
        "cir_service_info",
        "1, with the service's name and version.",
        ["service", "version"],
        registry=registry,
    )
    version.labels(service, software_version()).set(1)
    return registry


@contextmanager
def serve_metrics(registry: CollectorRegistry, address: Address) -> Iterator[int]:
    """Serve the registry over HTTP on its own threads while the block lasts; yield the port.

    Raises:
        StartupError: the port cannot be bound.
    """
    try:
        server = MetricsServer(address.host.bare, address.port, registry)
    except OSError as error:
        raise StartupError(f"metrics cannot listen on {address}: {error.strerror}") from error
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
