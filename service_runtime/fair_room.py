"""Room for work that callers share by turns: one with very much to do delays another by its turn alone."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairRoom:
    """Room for `capacity` units of work at a time. For one event loop.

    What finds none waits: callers take turns, and each caller's own work goes oldest first. Work of more than
    the capacity counts as all of it.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._free = capacity
        self._waiting: OrderedDict[str, deque[tuple[int, asyncio.Future[None]]]] = OrderedDict()

    @property
    def free(self) -> int:
        """Units that nothing holds."""
        return self._free

    @property
    def waiting(self) -> int:
        """Number of works that wait, with those given up behind others."""
        return sum(map(len, self._waiting.values()))

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
        self._waiting.setdefault(caller, deque()).append((units, turn))
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
            caller, entries = next(iter(self._waiting.items()))
            wanted, turn = entries[0]
            given_up = turn.done()
            if wanted > self._free and not given_up:
                return
            entries.popleft()
            if not entries:
                del self._waiting[caller]
            elif not given_up:
                self._waiting.move_to_end(caller)
            if not given_up:
                self._free -= wanted
                turn.set_result(None)
