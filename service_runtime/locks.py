"""Locks between processes: exclusive, of an open file, freed when their holder dies, however it dies.

On Unix such a lock is a `flock` of the whole file; on Windows it keeps others from the file's first byte, so
that what is noted in a locked file begins behind it.
"""

from __future__ import annotations

import os
import time

_POLL_S = 0.02


def take_within(descriptor: int, wait_s: float, *, poll_s: float = _POLL_S) -> bool:
    """Lock an open file for this descriptor only, trying for `wait_s` seconds; return whether it succeeded.

    Tries every `poll_s` seconds. Blocks. Closing the descriptor frees the lock.
    """
    # Only here: commands that take no lock start without it.
    from filelock import lock_descriptor

    deadline = time.monotonic() + wait_s
    while not lock_descriptor(descriptor, blocking=False):
        if time.monotonic() >= deadline:
            return False
        time.sleep(poll_s)
    return True


def write_note(descriptor: int, text: str) -> None:
    """Write into a file that this descriptor has locked, in place of what was noted before."""
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, f" {text}".encode())


def read_note(path: str | os.PathLike[str]) -> str:
    """Return what is noted in a file that another process may have locked.

    Raises:
        OSError: the file cannot be read.
        ValueError: what it holds is no text.
    """
    with open(path, "rb", buffering=0) as file:
        file.seek(1)
        return file.read().decode()
