"""Whether work moves on: what the watchdog asks of a queue, a pool or a device thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Progress:
    """Counts pieces of work that wait or run, and remembers when one last ended. Safe with threads.

    A worker that is stuck ends nothing while work waits; an idle one has nothing waiting. Only the first
    is a stall.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open = 0
        self._moved = clock()

    @property
    def open(self) -> int:
        """Pieces that were begun and have not ended."""
        return self._open

    def begin(self) -> None:
        """A piece of work arrived."""
        with self._lock:
            if self._open == 0:
                self._moved = self._clock()
            self._open += 1

    def end(self) -> None:
        """A piece of work ended, whether well or not."""
        with self._lock:
            self._open -= 1
            self._moved = self._clock()

    @contextmanager
    def working(self) -> Iterator[None]:
        """`begin` and `end` around a block."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    def stalled_seconds(self) -> float:
        """Seconds since a piece last ended (or the first arrived) while any is open; 0 when none is."""
        with self._lock:
            return self._clock() - self._moved if self._open else 0.0
