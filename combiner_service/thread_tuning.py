"""Threads of a forward pass. One row of features is a product of a matrix and a vector, which
is over when the weights have been read: more threads than keep the memory busy only get in the way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

# Twice the threads must save this share of the time, or they are left to others.
_WORTH = 0.1
_REPEATS = 3
# From this many rows on the arithmetic outweighs the reading.
_FEW_ROWS = 4


@dataclass(frozen=True, slots=True)
class ThreadCounts:
    """Threads for passes of few rows, and for all others."""

    few: int
    many: int

    def of_rows(self, rows: int) -> int:
        """Return the threads for a pass of `rows` rows."""
        return self.few if rows < _FEW_ROWS else self.many


def tune_threads(
    run: Callable[[int], object], most: int, clock: Callable[[], float] = time.perf_counter
) -> int:
    """Time `run(threads)` with 1, 2, 4, ... up to `most`; the last that was worth doubling to.

    The best of three counts, because a neighbour on the machine can only make a run slower.
    """
    chosen, best = 1, _seconds(run, 1, clock)
    while chosen < most:
        threads = min(2 * chosen, most)
        seconds = _seconds(run, threads, clock)
        if seconds > (1 - _WORTH) * best:
            break
        chosen, best = threads, seconds
    return chosen


def _seconds(run: Callable[[int], object], threads: int, clock: Callable[[], float]) -> float:
    run(threads)
    times = []
    for _ in range(_REPEATS):
        started = clock()
        run(threads)
        times.append(clock() - started)
    return min(times)
