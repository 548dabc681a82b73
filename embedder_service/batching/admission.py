"""Admission: how much work the embedder accepts, by count and by expected wait; more is refused at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cir.common.v1 import errors_pb2 as pb
from embedder_service.batching.jobs import Priority, Tower
from service_runtime.errors import ServiceError

# Seconds of busy time: old enough to be steady, young enough to follow a change of load.
_HALF_LIFE_SECONDS = 5.0
# With less busy time than this there is no estimate.
_LEAST_BUSY_SECONDS = 1.0
# Shortest time after which a refused caller is asked to try again.
_RETRY_SECONDS = 0.2


class WaitEstimate:
    """Estimate of the wait: items held, over the recent rate of completed items. For one thread.

    The rate counts busy time only, that is time during which items are held.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held = 0
        self._updated = clock()
        # Both decay with busy time, so their ratio is the recent rate.
        self._busy_seconds = 0.0
        self._completed = 0.0

    @property
    def held(self) -> int:
        """Number of items added and not removed."""
        return self._held

    def add(self, items: int) -> None:
        """Count items that arrive."""
        self._advance()
        self._held += items

    def remove(self, items: int, *, completed: bool) -> None:
        """Count items that leave; only those that were `completed` enter the rate."""
        self._advance()
        self._held -= items
        if completed:
            self._completed += items

    def seconds(self) -> float:
        """Return the seconds until everything held is completed; 0 while there is too little experience."""
        busy, completed = self._decayed(self._clock())
        return self._held * busy / completed if busy >= _LEAST_BUSY_SECONDS and completed > 0 else 0.0

    def _advance(self) -> None:
        now = self._clock()
        self._busy_seconds, self._completed = self._decayed(now)
        self._updated = now

    def _decayed(self, now: float) -> tuple[float, float]:
        elapsed = max(0.0, now - self._updated)
        if not self._held:
            return self._busy_seconds, self._completed
        decay = 0.5 ** (elapsed / _HALF_LIFE_SECONDS)
        return self._busy_seconds * decay + elapsed, self._completed * decay


class Admission:
    """Count of the items that calls hold, from a call's arrival to its answer. For one event loop.

    At most `max_items` are held. Bulk work gets at most three quarters of them, so that it never keeps
    interactive calls out. Interactive work is also refused when it would wait for longer than
    `max_wait_seconds` (0 sets no bound): under a lasting overload, a longer queue answers nobody sooner, and
    everybody too late.
    """

    def __init__(
        self,
        max_items: int,
        *,
        max_wait_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = {Priority.INTERACTIVE: max_items, Priority.BULK: max(1, max_items * 3 // 4)}
        self._held = 0
        self._max_wait = max_wait_seconds
        # Interactive work alone: bulk work is behind it, and the towers take turns, so neither is ahead.
        self._waits = {tower: WaitEstimate(clock) for tower in Tower}
        self._freed = asyncio.Event()

    @property
    def held(self) -> int:
        """Number of items held now."""
        return self._held

    def wait_seconds(self, tower: Tower) -> float:
        """Return the seconds that an interactive item of a tower would wait if it arrived now."""
        return self._waits[tower].seconds()

    @contextmanager
    def hold(self, items: int, priority: Priority, tower: Tower) -> Iterator[None]:
        """Hold `items` for the duration of the block.

        Raises:
            ServiceError: OVERLOADED, with a time after which to try again.
        """
        wait = self._waits[tower] if priority is Priority.INTERACTIVE else None
        self._check_count(items, priority)
        if wait is not None:
            self._check_wait(wait.seconds())
            wait.add(items)
        self._held += items
        completed = False
        try:
            yield
            completed = True
        finally:
            self._held -= items
            if wait is not None:
                wait.remove(items, completed=completed)
            self._freed.set()

    async def wait_for_room(self) -> None:
        """Return after items were given back; only `hold` decides if that is enough."""
        self._freed.clear()
        await self._freed.wait()

    def _check_count(self, items: int, priority: Priority) -> None:
        limit = self._limits[priority]
        # A batch larger than the limit is admitted when nothing else is held; otherwise it never could be.
        if self._held and self._held + items > limit:
            raise ServiceError(
                pb.OVERLOADED,
                f"{self._held} items are held, {items} more would exceed the limit of {limit} for "
                f"{priority.name.lower()} work; try again later",
                retry_after=_RETRY_SECONDS,
            )

    def _check_wait(self, seconds: float) -> None:
        if self._max_wait and seconds > self._max_wait:
            raise ServiceError(
                pb.OVERLOADED,
                f"the call would wait for {seconds:.1f} s, the limit is {self._max_wait:g} s; try again "
                "later, or send work that may wait with priority BULK",
                retry_after=max(_RETRY_SECONDS, seconds - self._max_wait),
            )
