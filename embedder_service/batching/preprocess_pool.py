"""Threads that preprocess items (decode, resize, tokenise) while the device computes, and their queue.

One lock, `PreprocessPool._changed`, guards the queue, the flag of closing and the counts of `progress`. It is
held to choose a task and to count it, never while a task runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

from embedder_service.batching.jobs import Caller, Priority
from embedder_service.batching.scheduling import PriorityPicker, RecentActivity
from service_runtime.logging import get_logger
from service_runtime.turns import RoundRobin
from service_runtime.watchdog import Progress


@dataclass(frozen=True, slots=True, eq=False)
class PreprocessTask:
    """One task for a thread of the pool; `run` raises nothing."""

    caller: Caller
    priority: Priority
    run: Callable[[], None]
    party: Hashable = None


class PreprocessQueue:
    """Tasks that wait, by class; in each class callers take turns. Used under the pool's lock.

    Interactive tasks overtake bulk tasks without starving them. While interactive calls are active, bulk
    tasks get at most half of the threads (one at least): an interactive image then finds a free thread, and
    its forward pass free cores.
    """

    def __init__(self, threads: int, activity: RecentActivity) -> None:
        self._threads = threads
        self._activity = activity
        self._picker = PriorityPicker()
        self._waiting: dict[Priority, RoundRobin[PreprocessTask]] = {
            priority: RoundRobin() for priority in Priority
        }
        self._bulk_running = 0

    def __bool__(self) -> bool:
        return any(self._waiting.values())

    def put(self, task: PreprocessTask) -> None:
        """Append a task."""
        self._waiting[task.priority].put(task.caller, task, party=task.party)

    def take(self) -> PreprocessTask | None:
        """Return the next task for a free thread, or None when it should wait. Call `done` after it."""
        limit = max(1, self._threads // 2) if self._activity.is_active() else self._threads
        priority = self._picker.pick(
            interactive=bool(self._waiting[Priority.INTERACTIVE]),
            bulk=bool(self._waiting[Priority.BULK]) and self._bulk_running < limit,
        )
        if priority is None:
            return None
        waiting = self._waiting[priority]
        caller = waiting.next_caller()
        task = waiting.drop_oldest(caller)
        waiting.end_turn(caller)
        self._bulk_running += priority is Priority.BULK
        return task

    def done(self, task: PreprocessTask) -> None:
        """Free the thread of a task that has run."""
        self._bulk_running -= task.priority is Priority.BULK


class PreprocessPool:
    """A fixed number of threads over one `PreprocessQueue`.

    Tasks deliver their results themselves: no future and no event loop is in between.
    """

    def __init__(self, threads: int, activity: RecentActivity | None = None) -> None:
        self._queue = PreprocessQueue(threads, activity or RecentActivity())
        self._changed = threading.Condition()
        self._closing = False
        self.progress = Progress()
        self._threads = [
            threading.Thread(target=self._run, name=f"embedder-prepare-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        caller: Caller,
        priority: Priority,
        runs: Iterable[Callable[[], None]],
        *,
        party: Hashable = None,
    ) -> None:
        """Queue a task for each of `runs`.

        Raises:
            RuntimeError: the pool is closed.
        """
        with self._changed:
            if self._closing:
                raise RuntimeError("the pool is closed")
            for run in runs:
                self._queue.put(PreprocessTask(caller, priority, run, party))
                self.progress.begin()
                self._changed.notify()

    def close(self, timeout: float = 30.0) -> None:
        """Finish the tasks that wait and end the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout)

    def _run(self) -> None:
        while (task := self._next()) is not None:
            try:
                task.run()
            except BaseException as error:
                # A task handles its own errors; whatever else it raises must not cost a thread.
                get_logger().error("preparing an item failed", exc_info=error)
            with self._changed:
                self._queue.done(task)
                self.progress.end()
                if self._queue:
                    # This may have freed a thread for the other class too.
                    self._changed.notify()

    def _next(self) -> PreprocessTask | None:
        """Wait for a task; None when closing and nothing is left."""
        with self._changed:
            while True:
                task = self._queue.take()
                if task is not None or (self._closing and not self._queue):
                    return task
                self._changed.wait()
