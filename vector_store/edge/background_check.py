"""Comparing a version's files with their sums: for a bounded time when it is opened, then behind its queries.

The latter runs on a thread of lowest priority, reads a bounded number of bytes a second, and ends with the
version.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol

from service_runtime.logging import get_logger
from vector_store.edge.noted import NotedFiles, VersionFiles
from vector_store.edge.sums import FileDamageError, check_files, is_shared
from vector_store.errors import StoreDamagedError

_NICE = 19
# Pieces are a millisecond of work; between them others take the interpreter.
_LONGEST_PAUSE_S = 1.0


class CheckedVersion(Protocol):
    """An open version that is compared (see `versions.OpenVersion`)."""

    shard: str
    changed: bool


def check_for(noted: NotedFiles, files: VersionFiles, seconds: float) -> Iterator[int] | None:
    """Compare sizes and small files, then the rest for some seconds; return what is left, None for nothing.

    Blocks.

    Raises:
        StoreDamagedError: a file is not what was noted; the version is marked.
    """
    deadline = time.monotonic() + seconds
    pieces = check_files(noted.shard, noted.sums, start=random.random())  # noqa: S311 - spread, not secret
    try:
        for _ in pieces:
            if time.monotonic() >= deadline:
                return pieces
    except FileDamageError as error:
        raise files.found(error, noted.shard) from None
    return None


class BackgroundCheck:
    """The comparison of what `check_for` left of one open version.

    `on_damage` is called on its thread, at most once.
    """

    def __init__(
        self,
        opened: CheckedVersion,
        noted: NotedFiles,
        left: Iterator[int],
        files: VersionFiles,
        bytes_per_s: int,
        on_damage: Callable[[StoreDamagedError], None],
    ) -> None:
        self._opened = opened
        self._noted = noted
        self._left = left
        self._files = files
        self._bytes_per_s = bytes_per_s
        self._on_damage = on_damage
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vector-store-check", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the comparison. Blocks for a moment."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        if sys.platform == "linux":
            # There the priority is a thread's own.
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        only_shared = False
        while True:
            try:
                finished = self._compare(only_shared)
            except FileDamageError as error:
                if self._opened.shard != self._noted.shard.name:
                    return  # the version has gone on with other files
                if not self._opened.changed or is_shared(error.name):
                    self._on_damage(self._files.found(error, self._noted.shard))
                    return
                finished = False
            if finished or only_shared or self._stopped.is_set():
                break
            # It was changed online, which only these files withstand.
            only_shared = True
            sums = {name: file for name, file in self._noted.sums.items() if is_shared(name)}
            self._left = check_files(self._noted.shard, sums)
        if finished:
            get_logger().info("all files compared with their checksums", version=self._files.label)

    def _compare(self, only_shared: bool) -> bool:
        """Return whether everything that was left was compared, while none of it could change."""
        for size in self._left:
            if self._stopped.wait(min(_LONGEST_PAUSE_S, size / self._bytes_per_s)):
                return False
            if self._opened.shard != self._noted.shard.name:
                self._stopped.set()
                return False
            if self._opened.changed and not only_shared:
                return False
        return True
