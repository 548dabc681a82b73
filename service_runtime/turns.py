"""Turns of callers: one with very many items delays another by its turn, not by all of them."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class RoundRobin(Generic[T]):
    """Items by caller; callers take turns, and each caller's own items go oldest first.

    Callers may belong to parties, as the calls of one API key do: then parties take turns, and so do the
    callers of each. Not safe with threads.
    """

    def __init__(self) -> None:
        self._parties: OrderedDict[Hashable, OrderedDict[Hashable, deque[T]]] = OrderedDict()
        self._party_of: dict[Hashable, Hashable] = {}
        # Of the caller that was told last that it is its turn: it may have no items when the turn ends.
        self._turn: Hashable = None

    def __bool__(self) -> bool:
        return bool(self._parties)

    @property
    def callers(self) -> int:
        """Number of callers that have items."""
        return len(self._party_of)

    def __iter__(self) -> Iterator[T]:
        """Iterate over every item, in no promised order."""
        for callers in self._parties.values():
            for items in callers.values():
                yield from items

    def put(self, caller: Hashable, item: T, *, party: Hashable = None) -> None:
        """Append an item; a caller that had none gets the last turn of its party.

        Without a `party` a caller is one of its own. It belongs to its party while it has items.
        """
        party = self._party_of.setdefault(caller, (caller,) if party is None else party)
        self._parties.setdefault(party, OrderedDict()).setdefault(caller, deque()).append(item)

    def next_caller(self) -> Hashable:
        """Return the caller whose turn it is.

        Raises:
            StopIteration: nothing waits.
        """
        self._turn, callers = next(iter(self._parties.items()))
        return next(iter(callers))

    def oldest(self, caller: Hashable) -> T | None:
        """Return the caller's oldest item, or None."""
        if caller not in self._party_of:
            return None
        return self._parties[self._party_of[caller]][caller][0]

    def drop_oldest(self, caller: Hashable) -> T:
        """Remove and return the caller's oldest item; a caller without items leaves the round."""
        party = self._party_of[caller]
        callers = self._parties[party]
        item = callers[caller].popleft()
        if not callers[caller]:
            del callers[caller], self._party_of[caller]
        if not callers:
            del self._parties[party]
        return item

    def end_turn(self, caller: Hashable) -> None:
        """Move the caller to the end of its party's round, if it still has items, and the party likewise."""
        party = self._party_of.get(caller)
        if party is None:
            party = self._turn
        else:
            self._parties[party].move_to_end(caller)
        if party in self._parties:
            self._parties.move_to_end(party)

    def heads(self) -> list[tuple[Hashable, T]]:
        """Return each caller's oldest item."""
        return [(caller, items[0]) for callers in self._parties.values() for caller, items in callers.items()]
