"""Seconds of each stage of a call, and Prometheus metrics of searches, read from their answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from google.protobuf import duration_pb2
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.registry import Collector

from cir.enum_names import short_name
from cir.search.v1 import search_pb2 as pb
from service_runtime.metrics import SECONDS_BUCKETS

_RESULT_BUCKETS = (0, 1, 5, 10, 20, 50, 100, 200, 500, 1000)


class StageTimer:
    """Sums of seconds by stage; stages are the fields of `SearchTimings`."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - started

    def timings(self) -> pb.SearchTimings:
        """Return the seconds of the stages that happened, and the total until now."""
        seconds = {**self._seconds, "total": time.perf_counter() - self._started}
        return pb.SearchTimings(**{name: _duration_message(value) for name, value in seconds.items()})


def _duration_message(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration


class SearchMetrics:
    """Metrics of the searches that were answered."""

    def __init__(self) -> None:
        self._stages = Histogram(
            "cir_search_stage_seconds",
            "Seconds of an answered search in each stage; total is the whole of it.",
            ["stage"],
            buckets=SECONDS_BUCKETS,
            registry=None,
        )
        self._turns = Counter(
            "cir_search_turns",
            "Turns of answered searches by the kind of their query.",
            ["kind"],
            registry=None,
        )
        self._results = Histogram(
            "cir_search_results", "Results in one answer.", buckets=_RESULT_BUCKETS, registry=None
        )
        self._exact = Counter(
            "cir_search_exact", "Answered searches that compared every vector.", registry=None
        )
        self._embeddings = Counter(
            "cir_search_embeddings",
            "Texts and images of searches by where their features came from: asked of the embedder, shared "
            "with another call that asked for the same at that moment, or remembered.",
            ["kind", "source"],
            registry=None,
        )
        #: Items of the published version that no index holds; `UnindexedItems` keeps its labels few.
        self.unindexed = Gauge(
            "cir_search_unindexed_items",
            "Items of a catalog's published version that no index holds, as of its last searches.",
            ["catalog"],
            registry=None,
        )

    def record_response(self, answer: pb.SearchResponse) -> None:
        """Count an answer."""
        for stage, duration in answer.timings.ListFields():
            self._stages.labels(stage.name).observe(duration.ToNanoseconds() / 1e9)
        for turn in answer.explanation.turns:
            self._turns.labels(short_name(pb.TurnKind.DESCRIPTOR, turn.kind)).inc()
        self._results.observe(len(answer.results))
        if answer.explanation.exact:
            self._exact.inc()

    def record_embeddings(self, kind: str, **counts: int) -> None:
        """Count embeddings of a kind ("text", "image") by source."""
        for source, count in counts.items():
            if count:
                self._embeddings.labels(kind, source).inc(count)

    def collectors(self) -> Sequence[Collector]:
        """Return all of them."""
        return (
            self._stages,
            self._turns,
            self._results,
            self._exact,
            self._embeddings,
            self.unindexed,
        )
