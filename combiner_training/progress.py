"""Progress of a long run, as its caller sees it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Observer of a long piece of work."""

    def start(self, what: str, total: int) -> None:
        """Begin `total` steps of `what`."""

    def advance(self, done: int, note: str = "") -> None:
        """Note that `done` steps are done."""

    def stop(self) -> None:
        """End the work, well or badly."""
