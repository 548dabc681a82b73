"""How far long work has come: a bar on a terminal, a line now and then elsewhere, nothing when asked."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_LINE_EVERY_S = 10.0


class WorkProgress:
    """Tells a person on standard error; one piece of work after another."""

    def __init__(
        self,
        *,
        quiet: bool = False,
        file: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = sys.stderr if file is None else file
        self._quiet = quiet
        self._clock = clock
        console = Console(file=self._file)
        self._bar: Progress | None = None
        if console.is_terminal and not quiet:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=console,
            )
        self._task: TaskID | None = None
        self._what, self._total, self._next = "", 0, 0.0

    def start(self, what: str, total: int) -> None:
        """`total` steps of `what` begin."""
        self._what, self._total, self._next = what, total, self._clock() + _LINE_EVERY_S
        if self._bar is not None:
            self._task = self._bar.add_task(what, total=total, note="")
            self._bar.start()

    def advance(self, done: int, note: str = "") -> None:
        """`done` of the steps are done."""
        if self._bar is not None:
            if self._task is not None:
                self._bar.update(self._task, completed=done, note=note)
            return
        if not self._quiet and (self._clock() >= self._next or done == self._total):
            self._next = self._clock() + _LINE_EVERY_S
            extra = f", {note}" if note else ""
            print(f"{self._what}: {done}/{self._total}{extra}", file=self._file, flush=True)

    def stop(self) -> None:
        """The work is over, well or badly."""
        if self._bar is not None:
            self._bar.stop()
