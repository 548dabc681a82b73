"""Memory that starting and large messages took, given back to the system once they are gone.

glibc keeps what was freed in its arenas, which threads of ours and of gRPC share out among themselves.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable

#: Bytes of messages after which memory is given back, and seconds between two times.
TRIM_BYTES = 16 << 20
TRIM_SECONDS = 3.0


# Of glibc's malloc.h.
_M_ARENA_MAX = -8


def _find(name: str) -> Callable[..., int] | None:
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return None  # another C library, which returns memory by its own rules
    return found


_trim, _mallopt = _find("malloc_trim"), _find("mallopt")


def limit_arenas() -> None:
    """Take an arena for each core, before there are threads; glibc takes up to eight.

    What is free in one arena is of no use to the others. An operator's own choice is kept.
    """
    chosen = os.environ.get("MALLOC_ARENA_MAX") or "arena_max" in os.environ.get("GLIBC_TUNABLES", "")
    if _mallopt is not None and _trim is not None and not chosen:
        _mallopt(_M_ARENA_MAX, max(2, len(os.sched_getaffinity(0))))


def give_back_memory() -> None:
    """Give memory that was freed back to the system. Takes milliseconds."""
    if _trim is not None:
        _trim(0)


class MemoryReturn:
    """Counts bytes of messages that are gone, and gives their memory back when they were many."""

    def __init__(self) -> None:
        self._bytes = 0
        self._waiting = False

    def freed(self, size: int) -> None:
        """Count a message that is gone. On an event loop."""
        self._bytes += size
        if self._bytes >= TRIM_BYTES and not self._waiting:
            self._waiting = True
            asyncio.get_running_loop().call_later(TRIM_SECONDS, self._give_back)

    def _give_back(self) -> None:
        # Once more when little came since: what was under way is gone by then.
        again = self._bytes >= TRIM_BYTES
        self._bytes, self._waiting = 0, again
        if again:
            asyncio.get_running_loop().call_later(TRIM_SECONDS, self._give_back)
        # On a thread: it lets the interpreter go meanwhile.
        asyncio.get_running_loop().run_in_executor(None, give_back_memory)
