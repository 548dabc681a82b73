"""Whether interactive work is around: bulk work then leaves it room."""

from __future__ import annotations

import time
from collections.abc import Callable

# People who look at results come back within seconds: bulk work stays modest between their calls.
MEMORY_SECONDS = 10.0


class InteractivePresence:
    """Counts interactive calls from arrival to answer and remembers when the last one was there.

    Changed on one event loop, read from any thread.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, memory_seconds: float = MEMORY_SECONDS
    ) -> None:
        self._clock = clock
        self._memory = memory_seconds
        self._present = 0
        self._last = float("-inf")

    def arrived(self) -> None:
        """An interactive call came."""
        self._present += 1

    def left(self) -> None:
        """It was answered or given up."""
        self._present -= 1
        self._last = self._clock()

    def around(self) -> bool:
        """Whether one is there now or was a short while ago."""
        return self._present > 0 or self._clock() - self._last < self._memory
