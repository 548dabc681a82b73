"""Admission: how much work the embedder accepts, by count and by expected wait; more is refused at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cir.common.v1 import errors_pb2 as pb
from embedder_service.batching.jobs import Priority, Tower
from service_runtime.errors import ServiceError

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


_RETRY_SECONDS = 0.2


class Admission:
    """Counts items from a call's arrival to its answer. For one event loop.

    Bulk work gets at most three quarters, so that it never keeps interactive calls out. Interactive work
    is refused as well when it would wait for longer than `max_wait_seconds` (0 sets no bound): under a
    load that lasts, a longer queue answers nobody sooner, and everybody too late.
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
        # Bulk work is behind interactive work, and one tower's work beside the other's: neither is ahead.
        self._waits = {tower: WaitEstimate(clock) for tower in Tower}
        self._freed = asyncio.Event()

    @property
    def held(self) -> int:
        """Items held now."""
        return self._held

    def wait_seconds(self, tower: Tower) -> float:
        """Seconds that an interactive item of a tower is expected to wait if it arrives now."""
        return self._waits[tower].seconds()

    @contextmanager
    def hold(self, items: int, priority: Priority, tower: Tower) -> Iterator[None]:
        """Hold `items` for the block. Raises ServiceError (OVERLOADED, with a time to try again)."""
        wait = self._waits[tower] if priority is Priority.INTERACTIVE else None
        self._check_count(items, priority)
        if wait is not None:
            self._check_wait(wait.seconds())
            wait.arrived(items)
        self._held += items
        done = False
        try:
            yield
            done = True
        finally:
            self._held -= items
            if wait is not None:
                wait.left(items, done=done)
            self._freed.set()

    async def wait_for_room(self) -> None:
        """Return after items were given back; whether that is enough is for `hold` to say."""
        self._freed.clear()
        await self._freed.wait()

    def _check_count(self, items: int, priority: Priority) -> None:
        limit = self._limits[priority]
        # A batch larger than the limit is let in when nothing else is held, else it could never be.
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
