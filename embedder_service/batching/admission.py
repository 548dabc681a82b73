"""Admission: how much work the embedder accepts, by count and by expected wait; more is refused at once.

Both bounds are a party's own, so that one with very much to do keeps no other out.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cir.common.v1 import errors_pb2 as pb
from embedder_service.batching.jobs import Priority, Tower
from service_runtime.auth import current_caller
from service_runtime.errors import ServiceError

# Seconds of busy time: old enough to be steady, young enough to follow a change of load.
_HALF_LIFE_SECONDS = 5.0
# With less busy time than this there is no estimate.
_LEAST_BUSY_SECONDS = 1.0
# Shortest time after which a refused caller is asked to try again.
_RETRY_SECONDS = 0.2


class WaitEstimate:
    """Estimate of the wait: items ahead, over the recent rate of completed items. For one thread.

    Parties take turns (see batch_queue.py): ahead of a party's next item are its own, and of every other
    party as many as it has itself by then. The rate counts busy time only, that is time during which items
    are held.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held = 0
        self._held_by: Counter[str] = Counter()
        self._updated = clock()
        # Both decay with busy time, so their ratio is the recent rate.
        self._busy_seconds = 0.0
        self._completed = 0.0

    @property
    def held(self) -> int:
        """Number of items added and not removed."""
        return self._held

    def add(self, party: str, items: int) -> None:
        """Count items that arrive."""
        self._advance()
        self._held += items
        self._held_by[party] += items

    def remove(self, party: str, items: int, *, completed: bool) -> None:
        """Count items that leave; only those that were `completed` enter the rate."""
        self._advance()
        self._held -= items
        _subtract(self._held_by, party, items)
        if completed:
            self._completed += items

    def ahead(self, party: str, items: int) -> int:
        """Return how many items are embedded before the last of `items` of a party, without these."""
        own = self._held_by[party]
        last = own + items
        return own + sum(min(held, last) for other, held in self._held_by.items() if other != party)

    def seconds(self) -> float:
        """Return the seconds until everything held is completed; 0 while there is too little experience."""
        return self._held * self._item_seconds()

    def seconds_of(self, party: str, items: int) -> float:
        """Return the seconds for which others' items and its own older ones hold up `items` of a party."""
        return self.ahead(party, items) * self._item_seconds()

    def _item_seconds(self) -> float:
        busy, completed = self._decayed(self._clock())
        return busy / completed if busy >= _LEAST_BUSY_SECONDS and completed > 0 else 0.0

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

    At most `max_items` are held. A party, which is all that call under one name, gets of each class at most
    half of what the others leave: one alone never takes the last quarter of the room, a newcomer gets half of
    what is free, and under a lasting overload all come to equal parts. Bulk work gets at most three quarters
    of the room, so that it never keeps interactive calls out. Interactive work is also refused when, by turns
    of parties, it would wait for longer than `max_wait_seconds` (0 sets no bound): under a lasting overload,
    a longer queue answers nobody sooner, and everybody too late.
    """

    def __init__(
        self,
        max_items: int,
        *,
        max_wait_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_items = max_items
        self._max_bulk = max(1, max_items * 3 // 4)
        self._held = dict.fromkeys(Priority, 0)
        self._held_by: dict[Priority, Counter[str]] = {priority: Counter() for priority in Priority}
        self._max_wait = max_wait_seconds
        # Interactive work alone: bulk work is behind it, and the towers take turns, so neither is ahead.
        self._waits = {tower: WaitEstimate(clock) for tower in Tower}
        self._freed = asyncio.Event()

    @property
    def held(self) -> int:
        """Number of items held now."""
        return sum(self._held.values())

    def wait_seconds(self, tower: Tower) -> float:
        """Return the seconds until all interactive items of a tower that are held now are completed."""
        return self._waits[tower].seconds()

    def limit(self, party: str, priority: Priority) -> int:
        """Return how many items of a class a party may hold now."""
        own = self._held_by[priority][party]
        limit = (self._max_items - self.held + own) // 2
        return min(limit, self._max_bulk - self._held[priority] + own) if priority is Priority.BULK else limit

    @contextmanager
    def hold(self, items: int, priority: Priority, tower: Tower) -> Iterator[None]:
        """Hold `items` of the caller of the call being served for the duration of the block.

        Raises:
            ServiceError: OVERLOADED, with a time after which to try again.
        """
        party = current_caller()
        wait = self._waits[tower] if priority is Priority.INTERACTIVE else None
        self._check_count(items, party, priority)
        if wait is not None:
            self._check_wait(wait.seconds_of(party, items))
            wait.add(party, items)
        self._held[priority] += items
        self._held_by[priority][party] += items
        completed = False
        try:
            yield
            completed = True
        finally:
            self._held[priority] -= items
            _subtract(self._held_by[priority], party, items)
            if wait is not None:
                wait.remove(party, items, completed=completed)
            self._freed.set()

    async def wait_for_room(self) -> None:
        """Return after items were given back; only `hold` decides if that is enough."""
        self._freed.clear()
        await self._freed.wait()

    def _check_count(self, items: int, party: str, priority: Priority) -> None:
        own, limit = self._held_by[priority][party], self.limit(party, priority)
        # A call larger than the limit is admitted when nothing else is held; otherwise it never could be.
        if self.held and own + items > limit:
            raise ServiceError(
                pb.OVERLOADED,
                f"{self.held} of {self._max_items} items are held, {own} of them by this caller for "
                f"{priority.name.lower()} work; {items} more would exceed its limit of {limit}; try again "
                "later",
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


def _subtract(held_by: Counter[str], party: str, items: int) -> None:
    held_by[party] -= items
    if not held_by[party]:
        del held_by[party]
