"""What waits to be prepared (decoded, tokenised), and which of it goes next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from embedder_service.fair_share import FairShare, Priority
from embedder_service.job import Caller
from embedder_service.presence import InteractivePresence
from embedder_service.round_robin import RoundRobin


@dataclass(frozen=True, slots=True, eq=False)
class Preparation:
    """One piece of work for a thread of the pool; `run` raises nothing."""

    caller: Caller
    priority: Priority
    run: Callable[[], None]


class PrepareQueue:
    """Interactive work passes bulk work that waits, without starving it; inside a class callers take turns.

    While interactive calls are around, bulk work has at most half of the threads (one at least): an
    interactive picture then finds a free thread, and its forward pass free cores. Not safe with threads: the
    owner holds its lock.
    """

    def __init__(self, threads: int, presence: InteractivePresence) -> None:
        self._threads = threads
        self._presence = presence
        self._share = FairShare()
        self._waiting: dict[Priority, RoundRobin[Preparation]] = {
            priority: RoundRobin() for priority in Priority
        }
        self._bulk_running = 0

    def __bool__(self) -> bool:
        return any(self._waiting.values())

    def put(self, work: Preparation) -> None:
        """Append a piece of work."""
        self._waiting[work.priority].put(work.caller, work)

    def take(self) -> Preparation | None:
        """Return what a free thread does next, or None when it should wait. Call `done` after it."""
        limit = max(1, self._threads // 2) if self._presence.around() else self._threads
        priority = self._share.pick(
            interactive=bool(self._waiting[Priority.INTERACTIVE]),
            bulk=bool(self._waiting[Priority.BULK]) and self._bulk_running < limit,
        )
        if priority is None:
            return None
        waiting = self._waiting[priority]
        caller = waiting.next_caller()
        work = waiting.drop_oldest(caller)
        waiting.end_turn(caller)
        self._bulk_running += priority is Priority.BULK
        return work

    def done(self, work: Preparation) -> None:
        """Give the thread of a piece of work back."""
        self._bulk_running -= work.priority is Priority.BULK
