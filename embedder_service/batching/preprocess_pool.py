"""Threads that prepare items (decode, preprocess, tokenise) while the device computes, and their queue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from embedder_service.batching.jobs import Caller, Priority
from embedder_service.batching.scheduling import PriorityPicker, RecentActivity, RoundRobin
from service_runtime.logging import get_logger
from service_runtime.watchdog import Progress


@dataclass(frozen=True, slots=True, eq=False)
class PreprocessTask:
    """One piece of work for a thread of the pool; `run` raises nothing."""

    caller: Caller
    priority: Priority
    run: Callable[[], None]


class PreprocessQueue:
    """Interactive work passes bulk work that waits, without starving it; inside a class callers take turns.

    While interactive calls are around, bulk work has at most half of the threads (one at least): an
    interactive picture then finds a free thread, and its forward pass free cores. Not safe with threads: the
    owner holds its lock.
    """

    def __init__(self, threads: int, presence: RecentActivity) -> None:
        self._threads = threads
        self._presence = presence
        self._share = PriorityPicker()
        self._waiting: dict[Priority, RoundRobin[PreprocessTask]] = {
            priority: RoundRobin() for priority in Priority
        }
        self._bulk_running = 0

    def __bool__(self) -> bool:
        return any(self._waiting.values())

    def put(self, work: PreprocessTask) -> None:
        """Append a piece of work."""
        self._waiting[work.priority].put(work.caller, work)

    def take(self) -> PreprocessTask | None:
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

    def done(self, work: PreprocessTask) -> None:
        """Give the thread of a piece of work back."""
        self._bulk_running -= work.priority is Priority.BULK


class PreprocessPool:
    """A fixed number of threads over one queue with two classes (see prepare_queue.py).

    Work hands its results on by itself: no future and no event loop is in between.
    """

    def __init__(self, threads: int, presence: RecentActivity | None = None) -> None:
        self._queue = PreprocessQueue(threads, presence or RecentActivity())
        self._changed = threading.Condition()
        self._closing = False
        self.progress = Progress()
        self._threads = [
            threading.Thread(target=self._run, name=f"embedder-prepare-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, caller: Caller, priority: Priority, works: Iterable[Callable[[], None]]) -> None:
        """Have each of `works` run on a thread. Raises RuntimeError after `close`."""
        with self._changed:
            if self._closing:
                raise RuntimeError("the pool is closed")
            for run in works:
                self._queue.put(PreprocessTask(caller, priority, run))
                self.progress.begin()
                self._changed.notify()

    def close(self, timeout: float = 30.0) -> None:
        """Finish what waits and end the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout)

    def _run(self) -> None:
        while (work := self._next()) is not None:
            try:
                work.run()
            except BaseException as error:
                # The work answers for its own errors; whatever else it raises must not cost a thread.
                get_logger().error("preparing an item failed", exc_info=error)
            with self._changed:
                self._queue.done(work)
                self.progress.end()
                if self._queue:
                    # This may have freed another thread's kind of work too.
                    self._changed.notify()

    def _next(self) -> PreprocessTask | None:
        """Wait for work; None when closing and nothing is left."""
        with self._changed:
            while True:
                work = self._queue.take()
                if work is not None or (self._closing and not self._queue):
                    return work
                self._changed.wait()
