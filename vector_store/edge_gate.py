"""Keeping the engine's files at rest while they are copied, between threads and processes.

The owner of a version holds its gate for each change, and while it opens, flushes and closes the shard; who
copies the files holds it for the copy. The engine works on its files in none of its own threads, so a copy
made with the gate held is what a process killed at that moment would leave behind: whole segments, and a
log with every acknowledged change that is not in them yet. Opening the copy replays that log.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vector_store.edge_lock import take_within
from vector_store.errors import StoreLocked

_POLL_S = 0.001
_WAIT_S = 60.0


class WriteGate:
    """An advisory lock on `path`, freed by the operating system when its holder dies. Changes, like copies,
    exclude each other."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def held(self, act: str, *, wait_s: float = _WAIT_S) -> Iterator[None]:
        """Hold the gate; `act` ('copy version ...') is for the message. Blocks.

        Raises `StoreLocked` after `wait_s` seconds, `FileNotFoundError` when the version is gone.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if not take_within(descriptor, wait_s, poll_s=_POLL_S):
                raise StoreLocked(
                    f"cannot {act}: its files were being changed or copied for more than {wait_s:.0f} s; try "
                    "again, and if it stays so look for a stopped process that uses the store"
                )
            yield
        finally:
            os.close(descriptor)
