"""Files that are read again when they change, without a restart."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from service_runtime.errors import StartupError
from service_runtime.logging import get_logger

T = TypeVar("T")
CHECK_SECONDS = 1.0


class WatchedFiles(Generic[T]):
    """The value that `load` makes of `paths`, made again after any of them changed. Safe with threads.

    `load` raises `StartupError`, and so does the constructor then, while a later failure is logged once and
    leaves the value as it was, so that a half-written or mistaken file never takes a service down.
    The files are checked when the value is asked for, at most every `check_seconds` (`CHECK_SECONDS` by
    default).
    """

    def __init__(
        self,
        name: str,
        paths: Sequence[Path],
        load: Callable[[], T],
        *,
        check_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._paths = paths
        self._load = load
        self._check_seconds = CHECK_SECONDS if check_seconds is None else check_seconds
        self._clock = clock
        self._lock = threading.Lock()
        # Taken before loading: a change while loading is then seen as one that came after.
        self._seen = self._state()
        self._checked_at = clock()
        self._value = load()

    def current(self) -> T:
        """Return the value of the newest files that could be loaded."""
        with self._lock:
            if self._clock() - self._checked_at >= self._check_seconds:
                self._checked_at = self._clock()
                state = self._state()
                if state != self._seen:
                    self._seen = state
                    self._reload()
            return self._value

    def _reload(self) -> None:
        try:
            self._value = self._load()
        except StartupError as error:
            get_logger().error("changed files not used", what=self._name, error=str(error), kept="the old")
        else:
            get_logger().info("changed files loaded", what=self._name)

    def _state(self) -> list[tuple[int, int, int] | None]:
        """Return identity, time and size of each file; links are followed, as mounted secrets are links."""
        states: list[tuple[int, int, int] | None] = []
        for path in self._paths:
            try:
                found = path.stat()
            except OSError:
                states.append(None)
            else:
                states.append((found.st_ino, found.st_mtime_ns, found.st_size))
        return states


def read_bytes(setting: str, path: Path) -> bytes:
    """Return the content of the file that a setting names.

    Raises:
        StartupError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise StartupError(f"{setting} {path} cannot be read: {error.strerror or error}") from error
