"""Callers take turns, and each caller's own items go oldest first."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from embedder_service.job import Caller

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
