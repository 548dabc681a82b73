"""Threads that prepare items (decode, preprocess, tokenise) beside the device."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from embedder_service.fair_share import FairShare, Priority

T = TypeVar("T")


class WorkPool:
    """A thread pool with two classes: interactive work passes bulk work that waits, without starving it."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="embedder-prepare")
        self._waiting: dict[Priority, deque[Callable[[], None]]] = {
            priority: deque() for priority in Priority
        }
        self._share = FairShare()
        self._lock = threading.Lock()

    def run(self, priority: Priority, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run `work` on a thread; cancelling the future before it begins takes it back."""
        outcome: Future[T] = Future()

        def carry_out() -> None:
            if not outcome.set_running_or_notify_cancel():
                return
            try:
                outcome.set_result(work())
            except BaseException as error:
                # The thread hands on whatever was raised; it is for the one who waits.
                outcome.set_exception(error)

        with self._lock:
            self._waiting[priority].append(carry_out)
        self._threads.submit(self._run_next)
        return asyncio.wrap_future(outcome)

    def close(self) -> None:
        """Finish what waits and end the threads."""
        self._threads.shutdown(wait=True)

    def _run_next(self) -> None:
        with self._lock:
            priority = self._share.pick(
                interactive=bool(self._waiting[Priority.INTERACTIVE]), bulk=bool(self._waiting[Priority.BULK])
            )
            work = None if priority is None else self._waiting[priority].popleft()
        if work is not None:
            work()
