"""Locks between processes: a file that one holder at a time has locked, with a note of who holds it.

The lock is an advisory `flock`: the operating system frees it when its holder dies, however it dies.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path

_POLL_S = 0.02


def take_within(descriptor: int, wait_s: float, *, poll_s: float = _POLL_S) -> bool:
    """Lock an open file for this descriptor alone, trying for `wait_s` seconds; whether it came. Blocks.

    Looks every `poll_s` seconds.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(poll_s)
        else:
            return True


class FileLock:
    """An exclusive lock on `path`. Two `FileLock`s on one path exclude each other, in one process too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self, purpose: str, *, wait_s: float = 0.0) -> bool:
        """Take the lock, trying for `wait_s` seconds; False when another holder keeps it.

        `purpose` is noted in the file. Raises `FileNotFoundError` when its folder is gone. Blocks.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        taken = False
        try:
            taken = take_within(descriptor, wait_s)
        finally:
            if not taken:
                os.close(descriptor)
        if not taken:
            return False
        self._descriptor = descriptor
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "purpose": purpose}).encode(), 0)
        return True

    def release(self) -> None:
        """Give the lock back; no error when it is not held."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def holder_of(path: Path) -> str:
    """Who noted itself in a lock file, for a message: 'process 123 (writing it)'."""
    try:
        note = json.loads(path.read_text())
        return f"process {note['pid']} ({note['purpose']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
