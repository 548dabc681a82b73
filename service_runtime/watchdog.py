"""Finds out that a service makes no progress while work waits, whatever still answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from service_runtime.progress import Progress

#: Exit code of a process that its watchdog ends (EX_SOFTWARE).
EXIT_CODE = 70
EVENT_LOOP = "event loop"


def stalled(progress: Mapping[str, Progress], limit: float) -> str:
    """Say what has made no progress for `limit` seconds while work waits; empty when all is well."""
    for name, work in progress.items():
        seconds = work.stalled_seconds()
        if seconds >= limit:
            return f"{name} has made no progress for {seconds:.0f} s with {work.open} waiting"
    return ""


@contextmanager
def watched(
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
            if problem := stalled(everything, limit):
                on_stall(problem)
                return

    thread = threading.Thread(target=watch, name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        # Not joined: on_stall may wait for this very thread.
