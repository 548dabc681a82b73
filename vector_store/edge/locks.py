"""Locks between processes: who owns a version, and when the engine's files are at rest.

A lock is that of an open file (`service_runtime.locks`): the operating system frees it when its holder dies,
however it dies.

The owner of a version holds its write lock for each change, and while it opens, flushes and closes the shard;
who copies the files holds it for the copy. The engine works on its files in none of its own threads, so a
copy made under the write lock is what a process killed at that moment would leave behind: whole segments, and
a log with every acknowledged change that is not in them yet. Opening the copy replays that log."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service_runtime.locks import read_note, take_within, write_note
from vector_store.errors import StoreLockedError

# Windows keeps descriptors from children by itself.
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)


class FileLock:
    """An exclusive lock on `path`. Two `FileLock`s on one path exclude each other, in one process too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self, purpose: str, *, wait_s: float = 0.0) -> bool:
        """Take the lock, trying for `wait_s` seconds; return False when another holder keeps it.

        `purpose` is noted in the file. Blocks.

        Raises:
            FileNotFoundError: the folder is gone.
        """
        descriptor = os.open(self._path, _FLAGS, 0o644)
        taken = False
        try:
            taken = take_within(descriptor, wait_s)
        finally:
            if not taken:
                os.close(descriptor)
        if not taken:
            return False
        self._descriptor = descriptor
        write_note(descriptor, json.dumps({"pid": os.getpid(), "purpose": purpose}))
        return True

    def release(self) -> None:
        """Give the lock back; no error when it is not held."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def holder_of(path: Path) -> str:
    """Describe the holder that a lock file notes, for a message: 'process 123 (writing it)'."""
    try:
        note = json.loads(read_note(path))
        return f"process {note['pid']} ({note['purpose']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


_WRITE_POLL_S = 0.001
_WRITE_WAIT_S = 60.0


class WriteLock:
    """An advisory lock on `path`, freed by the operating system when its holder dies.

    Changes and copies exclude each other, and themselves.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def held(self, act: str, *, wait_s: float = _WRITE_WAIT_S) -> Iterator[None]:
        """Hold the lock; `act` ('copy version ...') is for the message. Blocks.

        Raises:
            StoreLockedError: it was not free within `wait_s` seconds.
            FileNotFoundError: the version is gone.
        """
        descriptor = os.open(self._path, _FLAGS, 0o644)
        try:
            if not take_within(descriptor, wait_s, poll_s=_WRITE_POLL_S):
                raise StoreLockedError(
                    f"cannot {act}: its files were being changed or copied for more than {wait_s:.0f} s; try "
                    "again, and if it stays so look for a stopped process that uses the store"
                )
            yield
        finally:
            os.close(descriptor)
