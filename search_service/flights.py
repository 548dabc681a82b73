"""Work that several callers want at the same moment is done once, and each gets the result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass(slots=True, eq=False)
class _Flight(Generic[Key, Value]):
    """Work under way for some keys, and how many callers wait for it."""

    keys: Sequence[Key]
    task: asyncio.Task[Mapping[Key, Value]]
    passengers: int = 0


class Flights(Generic[Key, Value]):
    """What is under way, by key.

    A flight belongs to no caller: one that is cancelled or runs out of time leaves it to the others, and the
    last one to leave cancels it. Nothing is kept once a flight has ended, errors included.
    """

    def __init__(self) -> None:
        self._by_key: dict[Key, _Flight[Key, Value]] = {}

    async def get(
        self,
        keys: Sequence[Key],
        fetch: Callable[[Sequence[Key]], Coroutine[Any, Any, Mapping[Key, Value]]],
        *,
        only_own: Callable[[BaseException], bool] = lambda _: False,
    ) -> tuple[dict[Key, Value], int]:
        """Values by key, and for how many keys a flight of another caller was shared.

        `fetch` is called once, with the keys that are not under way. What it raises is raised to everybody
        who waits, unless `only_own` says that it may be about the keys of the caller who began: then the
        others fetch theirs alone.
        """
        wanted = list(dict.fromkeys(keys))
        new = [key for key in wanted if key not in self._by_key]
        own = self._begin(new, fetch) if new else None
        flights = {key: self._by_key[key] for key in wanted}
        await self._wait(set(flights.values()))
        values: dict[Key, Value] = {}
        alone: list[Key] = []
        for key, flight in flights.items():
            error = flight.task.exception()
            if error is None:
                values[key] = flight.task.result()[key]
            elif flight is not own and only_own(error):
                alone.append(key)
            else:
                raise error
        if alone:
            values.update(await fetch(alone))
        return values, len(wanted) - len(new)

    def _begin(
        self,
        keys: Sequence[Key],
        fetch: Callable[[Sequence[Key]], Coroutine[Any, Any, Mapping[Key, Value]]],
    ) -> _Flight[Key, Value]:
        flight = _Flight(keys, asyncio.get_running_loop().create_task(fetch(keys)))
        self._by_key.update(dict.fromkeys(keys, flight))
        flight.task.add_done_callback(lambda _: self._landed(flight))
        return flight

    async def _wait(self, flights: set[_Flight[Key, Value]]) -> None:
        """Until all have landed, one way or another."""
        for flight in flights:
            flight.passengers += 1
        try:
            await asyncio.wait([flight.task for flight in flights])
        finally:
            for flight in flights:
                flight.passengers -= 1
                if not flight.passengers and not flight.task.done():
                    flight.task.cancel()
                    self._forget(flight)  # at once: nobody may join a flight that is being cancelled

    def _landed(self, flight: _Flight[Key, Value]) -> None:
        self._forget(flight)
        if not flight.task.cancelled():
            flight.task.exception()  # looked at, so that one nobody waits for any more is not reported

    def _forget(self, flight: _Flight[Key, Value]) -> None:
        for key in flight.keys:
            if self._by_key.get(key) is flight:
                del self._by_key[key]
