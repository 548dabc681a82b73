"""How long work that arrives now will wait, judged by how fast such work was done lately."""

from __future__ import annotations

import time
from collections.abc import Callable

# Of busy time: old enough to be steady, young enough to follow a change of load.
_HALF_LIFE_SECONDS = 5.0
# With less experience than this there is no estimate.
_LEAST_SECONDS = 1.0


class WaitEstimate:
    """Items ahead over the rate at which items were done while there were any. For one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held = 0
        self._updated = clock()
        # Both fade with busy time, so their ratio is a rate of late.
        self._busy = 0.0
        self._done = 0.0

    @property
    def held(self) -> int:
        """Items that have arrived and not left."""
        return self._held

    def arrived(self, items: int) -> None:
        """Items came."""
        self._advance()
        self._held += items

    def left(self, items: int, *, done: bool) -> None:
        """Items left, done or given up; only what was done says how fast work is done."""
        self._advance()
        self._held -= items
        if done:
            self._done += items

    def seconds(self) -> float:
        """Seconds until what is held is done; 0 while there is too little experience to say."""
        busy, done = self._faded(self._clock())
        return self._held * busy / done if busy >= _LEAST_SECONDS and done > 0 else 0.0

    def _advance(self) -> None:
        now = self._clock()
        self._busy, self._done = self._faded(now)
        self._updated = now

    def _faded(self, now: float) -> tuple[float, float]:
        elapsed = max(0.0, now - self._updated)
        if not self._held:
            return self._busy, self._done
        fade = 0.5 ** (elapsed / _HALF_LIFE_SECONDS)
        return self._busy * fade + elapsed, self._done * fade
