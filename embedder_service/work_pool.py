"""Threads that prepare items (decode, preprocess, tokenise) beside the device."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from embedder_service.fair_share import Priority
from embedder_service.job import Caller
from embedder_service.prepare_queue import Preparation, PrepareQueue
from embedder_service.presence import InteractivePresence
from service_runtime.logging import get_logger
from service_runtime.watchdog import Progress


class WorkPool:
    """A fixed number of threads over one queue with two classes (see prepare_queue.py).

    Work hands its results on by itself: no future and no event loop is in between.
    """

    def __init__(self, threads: int, presence: InteractivePresence | None = None) -> None:
        self._queue = PrepareQueue(threads, presence or InteractivePresence())
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
                self._queue.put(Preparation(caller, priority, run))
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

    def _next(self) -> Preparation | None:
        """Wait for work; None when closing and nothing is left."""
        with self._changed:
            while True:
                work = self._queue.take()
                if work is not None or (self._closing and not self._queue):
                    return work
                self._changed.wait()
