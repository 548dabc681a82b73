"""How long each stage of a call took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from google.protobuf import duration_pb2

from cir.search.v1 import search_pb2 as pb


class StageClock:
    """Sums seconds by stage; stages are the fields of `SearchTimings`."""

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
        """The stages that happened, and the total until now."""
        seconds = {**self._seconds, "total": time.perf_counter() - self._started}
        return pb.SearchTimings(**{name: _duration(value) for name, value in seconds.items()})


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration
