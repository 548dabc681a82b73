"""Room for work that callers share: one with very much to do delays others little, and keeps none out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from service_runtime.turns import RoundRobin


class FairRoom:
    """Room for `capacity` units of work at a time. For one event loop.

    What finds none waits: callers take turns, and each caller's own work goes oldest first. Work of more than
    the capacity counts as all of it.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._free = capacity
        self._waiting: RoundRobin[tuple[int, asyncio.Future[None]]] = RoundRobin()

    @property
    def free(self) -> int:
        """Units that nothing holds."""
        return self._free

    @property
    def waiting(self) -> int:
        """Number of works that wait, with those given up behind others."""
        return sum(1 for _ in self._waiting)

    @asynccontextmanager
    async def hold(self, caller: str, units: int = 1) -> AsyncIterator[None]:
        """Hold units for the block, waiting for them first."""
        units = min(units, self._capacity)
        if self._waiting or units > self._free:
            await self._wait(caller, units)
        else:
            self._free -= units
        try:
            yield
        finally:
            self._release(units)

    async def _wait(self, caller: str, units: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.put(caller, (units, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._release(0)  # what stands behind it may have room
            else:
                self._release(units)  # they came with the cancellation
            raise

    def _release(self, units: int) -> None:
        """Give units back, and let in whose turn it is."""
        self._free += units
        while self._waiting:
            caller = self._waiting.next_caller()
            entry = self._waiting.oldest(caller)
            assert entry is not None  # noqa: S101  # whose turn it is has something
            wanted, turn = entry
            given_up = turn.done()
            if wanted > self._free and not given_up:
                return
            self._waiting.drop_oldest(caller)
            if not given_up:
                self._waiting.end_turn(caller)
                self._free -= wanted
                turn.set_result(None)


class Places:
    """A number of places, of which the last eighth is for callers that hold few, which none keeps out.

    For one event loop.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._few = most // 8
        self._taken = 0
        self._by_caller: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """Places that are held."""
        return self._taken

    def of(self, caller: str) -> int:
        """Return how many places a caller holds."""
        return self._by_caller[caller]

    def holds_many(self, caller: str) -> bool:
        """Return True when the last eighth is not for a caller."""
        return self._by_caller[caller] >= self._few > 0

    def limit(self, caller: str) -> int:
        """Return the number of places from which on a caller gets none."""
        return self._most - self._few if self.holds_many(caller) else self._most

    def has_one(self, caller: str) -> bool:
        """Return True when there is a place for a caller."""
        return self._taken < self.limit(caller)

    @contextmanager
    def hold(self, caller: str) -> Iterator[None]:
        """Hold a place for the block, whether there is one or not."""
        self.take(caller)
        try:
            yield
        finally:
            self.give_back(caller)

    def take(self, caller: str) -> None:
        """Hold a place until it is given back, whether there is one or not."""
        self._taken += 1
        self._by_caller[caller] += 1

    def give_back(self, caller: str) -> None:
        """Give back a place that was taken."""
        self._taken -= 1
        self._by_caller[caller] -= 1
        if not self._by_caller[caller]:
            del self._by_caller[caller]


class Shares:
    """Room for `each` works of every caller at a time; what is beyond waits, oldest first.

    A caller waits for its own work alone, so that one whose works take long keeps nobody else waiting. Works
    that a caller does for others take turns by what it says of them. For one event loop.
    """

    def __init__(self, each: int) -> None:
        self._each = each
        self._rooms: dict[str, FairRoom] = {}

    def __len__(self) -> int:
        """Number of callers that have work."""
        return len(self._rooms)

    @asynccontextmanager
    async def hold(self, caller: str, *, on_behalf_of: str = "") -> AsyncIterator[None]:
        """Hold a place for the block, waiting for it first."""
        room = self._rooms.setdefault(caller, FairRoom(self._each))
        try:
            async with room.hold(on_behalf_of):
                yield
        finally:
            if room.free == self._each and not room.waiting:
                self._rooms.pop(caller, None)


class Rounds:
    """Rounds of the event loop, in each of which one work begins; callers take turns.

    Work that waits for nothing is done within its round: without turns, another caller's would wait in each
    of its own rounds for all that had come meanwhile. For one event loop.
    """

    def __init__(self) -> None:
        self._waiting: RoundRobin[asyncio.Future[None]] = RoundRobin()
        self._begun = False

    async def begin(self, caller: str) -> None:
        """Wait for a round; none is waited for while nobody else begins."""
        loop = asyncio.get_running_loop()
        if not self._begun:
            self._begun = True
            loop.call_soon(self._next)
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.put(caller, turn)
        await turn

    def _next(self) -> None:
        self._begun = False
        while self._waiting and not self._begun:
            caller = self._waiting.next_caller()
            turn = self._waiting.drop_oldest(caller)
            self._waiting.end_turn(caller)
            if not turn.done():  # else its work was cancelled
                self._begun = True
                turn.set_result(None)
        if self._begun:
            asyncio.get_running_loop().call_soon(self._next)
