"""Progress of a long run, as its caller sees it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Hears how far a long piece of work has come."""

    def start(self, what: str, total: int) -> None:
        """`total` steps of `what` begin."""

    def advance(self, done: int, note: str = "") -> None:
        """`done` steps are done."""

    def stop(self) -> None:
        """The work is over, well or badly."""
