"""Telling a person how a run goes: a bar on a terminal, plain lines elsewhere, nothing when asked."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from indexer.report import Tally
from service_runtime.counted import counted

_PLAIN_EVERY_S = 10.0


class Progress(ABC):
    """Hears of a run; is never asked anything. `start` comes before each walk over the items, `stop` last."""

    @abstractmethod
    def start(self, total: int) -> None:
        """Note that items begin to come; `total` of them are expected."""

    @abstractmethod
    def advance(self, tally: Tally) -> None:
        """Note that items were indexed or rejected; `tally` holds the counts so far."""

    @abstractmethod
    def stage(self, text: str) -> None:
        """Another stage begins, in a few words; also for remarks."""

    @abstractmethod
    def stop(self) -> None:
        """The run is over, well or badly."""


class SilentProgress(Progress):
    """Says nothing."""

    def start(self, total: int) -> None: ...

    def advance(self, tally: Tally) -> None: ...

    def stage(self, text: str) -> None: ...

    def stop(self) -> None: ...


class PlainProgress(Progress):
    """A line now and then, for logs and pipes."""

    def __init__(
        self,
        file: TextIO,
        *,
        every_s: float = _PLAIN_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
        spell: Callable[[str], str] = str,
    ) -> None:
        self._file = file
        self._spell = spell
        self._every_s = every_s
        self._clock = clock
        self._total = 0
        self._started = self._next = clock()

    def start(self, total: int) -> None:
        self._total = total
        self._started = self._clock()
        self._next = self._started + self._every_s
        self._say(f"{counted(total, 'item', 'items')} to index")

    def advance(self, tally: Tally) -> None:
        now = self._clock()
        done = tally.done
        if now < self._next and done < self._total:
            return
        self._next = now + self._every_s
        elapsed = max(now - self._started, 1e-9)
        rate = done / elapsed
        left = max(self._total - done, 0) / rate if rate else 0.0
        self._say(
            f"{done}/{self._total} items, {tally.rejected} rejected, {rate:.1f} items/s, {left:.0f} s left"
        )

    def stage(self, text: str) -> None:
        self._say(self._spell(text))

    def stop(self) -> None: ...

    def _say(self, text: str) -> None:
        print(text, file=self._file, flush=True)


class BarProgress(Progress):
    """A bar with count, rate, time left and rejects."""

    def __init__(self, console: Console, *, spell: Callable[[str], str] = str) -> None:
        self._spell = spell
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.1f}/s"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rejected]} rejected"),
            console=console,
        )
        self._task: TaskID | None = None
        self._started = 0.0

    def start(self, total: int) -> None:
        self._started = time.monotonic()
        self._task = self._bar.add_task("indexing", total=total, rate=0.0, rejected=0)
        self._bar.start()

    def advance(self, tally: Tally) -> None:
        if self._task is not None:
            done = tally.done
            elapsed = max(time.monotonic() - self._started, 1e-9)
            self._bar.update(self._task, completed=done, rate=done / elapsed, rejected=tally.rejected)

    def stage(self, text: str) -> None:
        self._bar.console.print(self._spell(text), markup=False, highlight=False)

    def stop(self) -> None:
        self._bar.stop()


def progress_for(
    file: TextIO | None = None, *, silent: bool = False, spell: Callable[[str], str] = str
) -> Progress:
    """Return the progress that suits `file` (standard error by default): a bar on a terminal, else lines."""
    if silent:
        return SilentProgress()
    out = sys.stderr if file is None else file
    console = Console(file=out)
    if console.is_terminal:
        return BarProgress(console, spell=spell)
    return PlainProgress(out, spell=spell)
