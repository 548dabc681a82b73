"""Scheduling rules of both queues: classes by priority, room for interactive calls.

`PriorityPicker` is not safe with threads: each belongs to one queue and is used under the lock that guards
that queue, as the `RoundRobin` of callers is.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from embedder_service.batching.jobs import Priority

# People who look at results come back within seconds: bulk work stays modest between their calls.
RECENT_SECONDS = 10.0


class PriorityPicker:
    """Choice between the two classes: interactive work first, without starving bulk work.

    Bulk work that waits gets one pick in `bulk_every`.
    """

    def __init__(self, bulk_every: int = 5) -> None:
        self._bulk_every = bulk_every
        self._passed_over = 0

    def pick(self, *, interactive: bool, bulk: bool) -> Priority | None:
        """Return the class that goes next given which classes have work; None when neither has."""
        if not bulk:
            self._passed_over = 0
            return Priority.INTERACTIVE if interactive else None
        if interactive and self._passed_over < self._bulk_every - 1:
            self._passed_over += 1
            return Priority.INTERACTIVE
        self._passed_over = 0
        return Priority.BULK


class RecentActivity:
    """Count of unanswered interactive calls, and the time when the last one ended.

    Bulk work leaves room for interactive work while this is active. Changed on one event loop, read from any
    thread without a lock: a reader may see a value that is one call old.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, recent_seconds: float = RECENT_SECONDS
    ) -> None:
        self._clock = clock
        self._recent_seconds = recent_seconds
        self._calls = 0
        self._last_end = float("-inf")

    def call_started(self) -> None:
        """Count an interactive call that has arrived."""
        self._calls += 1

    def call_ended(self) -> None:
        """Count an interactive call that was answered or given up."""
        self._calls -= 1
        self._last_end = self._clock()

    def is_active(self) -> bool:
        """Return True while an interactive call is unanswered, and for `recent_seconds` after it."""
        return self._calls > 0 or self._clock() - self._last_end < self._recent_seconds
