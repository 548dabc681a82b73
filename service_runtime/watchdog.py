"""The watchdog: detects that a service makes no progress while work waits, even if it still answers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager


class Progress:
    """Count of work items that wait or run, and the time when one last ended. Safe with threads.

    A worker that is stuck ends nothing while work waits; an idle one has nothing waiting. Only the first
    is a stall.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open = 0
        self._moved = clock()

    @property
    def open(self) -> int:
        """Number of items that were begun and have not ended."""
        return self._open

    def begin(self) -> None:
        """Count an item that arrived."""
        with self._lock:
            if self._open == 0:
                self._moved = self._clock()
            self._open += 1

    def end(self) -> None:
        """Count an item that ended, well or not."""
        with self._lock:
            self._open -= 1
            self._moved = self._clock()

    def stalled_seconds(self) -> float:
        """Return the seconds since an item last ended (or the first arrived) while any is open, else 0."""
        with self._lock:
            return self._clock() - self._moved if self._open else 0.0


#: Exit code of a process that its watchdog ends (EX_SOFTWARE).
EXIT_CODE = 70
EVENT_LOOP = "event loop"


def find_stall(progress: Mapping[str, Progress], limit: float) -> str:
    """Return a line on what made no progress for `limit` seconds while work waits; empty without a stall."""
    for name, work in progress.items():
        seconds = work.stalled_seconds()
        if seconds >= limit:
            return f"{name} has made no progress for {seconds:.0f} s with {work.open} waiting"
    return ""


@contextmanager
def watch_progress(
    progress: Mapping[str, Progress], *, limit: float, on_stall: Callable[[str], None]
) -> Iterator[None]:
    """Watch the work and the running event loop from a thread while the block lasts.

    `on_stall` is called at most once, on that thread, with what stalled. A `limit` of 0 watches nothing.
    """
    if not limit:
        yield
        return
    loop = asyncio.get_running_loop()
    beats = Progress()
    everything = {EVENT_LOOP: beats, **progress}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(min(1.0, limit / 4)):
            if not beats.open:
                # Answered as soon as the loop gets round to it: the loop is work like any other.
                beats.begin()
                loop.call_soon_threadsafe(beats.end)
            if problem := find_stall(everything, limit):
                on_stall(problem)
                return

    thread = threading.Thread(target=watch, name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        # Not joined: on_stall may wait for this very thread.
