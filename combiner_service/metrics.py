"""Prometheus metrics of the combiner service.

Combiners are counted by kind: the name of one without a checkpoint, or `network`, so that the number of
series does not grow with checkpoints or with names that callers make up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.registry import Collector

from combiner_service.checkpoint_directory import is_checkpoint

NETWORK = "network"
# A name that is neither, such as one that a caller made up; it never gets as far as being combined.
OTHER = "other"

_SECONDS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


class CombinerMetrics:
    """Counts of the service. Safe to use from several threads.

    `names` are those of the combiners without a checkpoint: each is a kind of its own.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._batch_items = Histogram(
            "cir_combiner_batch_items",
            "Pairs combined at once, gathered over calls.",
            ["kind"],
            buckets=_ITEMS,
            registry=None,
        )
        self._queue_seconds = Histogram(
            "cir_combiner_queue_seconds",
            "Seconds that a call waited for a worker.",
            ["kind"],
            buckets=_SECONDS,
            registry=None,
        )
        self._combine_seconds = Histogram(
            "cir_combiner_combine_seconds",
            "Seconds that combining took, the reading of a network not counted.",
            ["kind"],
            buckets=_SECONDS,
            registry=None,
        )
        self._dropped = Counter(
            "cir_combiner_dropped_calls",
            "Calls whose time ran out, or that were cancelled, while they waited; they cost no work.",
            registry=None,
        )
        self._loads = Counter("cir_combiner_loads", "Networks read, by outcome.", ["outcome"], registry=None)
        self._load_seconds = Histogram(
            "cir_combiner_load_seconds",
            "Seconds that reading a network took.",
            buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
            registry=None,
        )
        self._waiting = Gauge("cir_combiner_waiting_items", "Pairs that wait for a worker.", registry=None)
        self._networks = Gauge("cir_combiner_networks_loaded", "Networks in memory.", registry=None)
        self._unusable = Gauge(
            "cir_combiner_unusable_checkpoints",
            "Checkpoints in the folder that cannot be used; ListCombiners says why.",
            registry=None,
        )
        for outcome in ("ok", "failed"):
            self._loads.labels(outcome)

    def kind_of(self, name: str) -> str:
        """Return the label for a combiner's name: one of `names`, `NETWORK` or `OTHER`, for any text."""
        if is_checkpoint(name):
            return NETWORK
        return name if name in self._names else OTHER

    def watch(
        self, *, waiting: Callable[[], int], networks: Callable[[], int], unusable: Callable[[], int]
    ) -> None:
        """Say where the gauges read their values from."""
        self._waiting.set_function(waiting)
        self._networks.set_function(networks)
        self._unusable.set_function(unusable)

    def started(self, name: str, queue_seconds: float) -> None:
        """Count a call for the combiner of this name that left the queue."""
        self._queue_seconds.labels(self.kind_of(name)).observe(queue_seconds)

    def combined(self, name: str, items: int, seconds: float) -> None:
        """Count `items` pairs that were combined at once."""
        kind = self.kind_of(name)
        self._batch_items.labels(kind).observe(items)
        self._combine_seconds.labels(kind).observe(seconds)

    def dropped(self) -> None:
        """Count a call that left the queue without work."""
        self._dropped.inc()

    def loaded(self, seconds: float) -> None:
        """Count a network that was read."""
        self._loads.labels("ok").inc()
        self._load_seconds.observe(seconds)

    def load_failed(self) -> None:
        """Count a network that could not be read."""
        self._loads.labels("failed").inc()

    def collectors(self) -> Sequence[Collector]:
        """Return all collectors."""
        return (
            self._batch_items,
            self._queue_seconds,
            self._combine_seconds,
            self._dropped,
            self._loads,
            self._load_seconds,
            self._waiting,
            self._networks,
            self._unusable,
        )
