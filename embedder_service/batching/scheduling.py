"""Scheduling rules of both queues: classes by priority, callers in turns, room for interactive ones."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from embedder_service.batching.jobs import Caller, Priority


class PriorityPicker:
    """Picks interactive work first, but bulk work once for every `bulk_every` picks while it waits.

    Not safe with threads: the owner holds its lock.
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


T = TypeVar("T")


class RoundRobin(Generic[T]):
    """Items by caller. A caller with very many of them delays another by its turn, not by all of them.

    Not safe with threads: the owner holds its lock.
    """

    def __init__(self) -> None:
        self._items: OrderedDict[Caller, deque[T]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._items)

    @property
    def callers(self) -> int:
        """How many callers have items."""
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        """Every item, in no promised order."""
        for items in self._items.values():
            yield from items

    def put(self, caller: Caller, item: T) -> None:
        """Append an item; a caller that had none gets the last turn."""
        self._items.setdefault(caller, deque()).append(item)

    def next_caller(self) -> Caller:
        """Whose turn it is. Raises StopIteration when nothing waits."""
        return next(iter(self._items))

    def oldest(self, caller: Caller) -> T | None:
        """The caller's oldest item, or None."""
        items = self._items.get(caller)
        return items[0] if items else None

    def drop_oldest(self, caller: Caller) -> T:
        """Take the caller's oldest item out; a caller without items leaves the round."""
        items = self._items[caller]
        item = items.popleft()
        if not items:
            del self._items[caller]
        return item

    def end_turn(self, caller: Caller) -> None:
        """Put the caller at the end of the round, if it still has items."""
        if caller in self._items:
            self._items.move_to_end(caller)

    def heads(self) -> list[tuple[Caller, T]]:
        """Each caller's oldest item."""
        return [(caller, items[0]) for caller, items in self._items.items()]


# People who look at results come back within seconds: bulk work stays modest between their calls.
RECENT_SECONDS = 10.0


class RecentActivity:
    """Counts interactive calls from arrival to answer and remembers when the last one was there.

    Changed on one event loop, read from any thread.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, memory_seconds: float = RECENT_SECONDS
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
