"""Scheduling rules of both queues: classes by priority, callers in turns, room for interactive calls.

`PriorityPicker` and `RoundRobin` are not safe with threads: each belongs to one queue and is used under the
lock that guards that queue.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from embedder_service.batching.jobs import Caller, Priority

# People who look at results come back within seconds: bulk work stays modest between their calls.
RECENT_SECONDS = 10.0

T = TypeVar("T")


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


class RoundRobin(Generic[T]):
    """Items by caller; callers take turns, and each caller's own items go oldest first.

    A caller with very many items delays another by its turn, not by all of them.
    """

    def __init__(self) -> None:
        self._items: OrderedDict[Caller, deque[T]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._items)

    @property
    def callers(self) -> int:
        """Number of callers that have items."""
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        """Iterate over every item, in no promised order."""
        for items in self._items.values():
            yield from items

    def put(self, caller: Caller, item: T) -> None:
        """Append an item; a caller that had none gets the last turn."""
        self._items.setdefault(caller, deque()).append(item)

    def next_caller(self) -> Caller:
        """Return the caller whose turn it is.

        Raises:
            StopIteration: nothing waits.
        """
        return next(iter(self._items))

    def oldest(self, caller: Caller) -> T | None:
        """Return the caller's oldest item, or None."""
        items = self._items.get(caller)
        return items[0] if items else None

    def drop_oldest(self, caller: Caller) -> T:
        """Remove and return the caller's oldest item; a caller without items leaves the round."""
        items = self._items[caller]
        item = items.popleft()
        if not items:
            del self._items[caller]
        return item

    def end_turn(self, caller: Caller) -> None:
        """Move the caller to the end of the round, if it still has items."""
        if caller in self._items:
            self._items.move_to_end(caller)

    def heads(self) -> list[tuple[Caller, T]]:
        """Return each caller's oldest item."""
        return [(caller, items[0]) for caller, items in self._items.items()]


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
