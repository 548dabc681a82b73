"""Which of two classes of work goes next: interactive first, bulk never starved."""

from __future__ import annotations

from enum import IntEnum


class Priority(IntEnum):
    """Class of a call's work."""

    INTERACTIVE = 0
    BULK = 1


class FairShare:
    """Picks interactive work first, but bulk work once for every `bulk_every` picks while it waits.

    Not safe with threads: the owner holds its lock.
    """

    def __init__(self, bulk_every: int = 5) -> None:
        self._bulk_every = bulk_every
        self._passed_over = 0

    def pick(self, *, interactive: bool, bulk: bool) -> Priority | None:
        """Return the class that goes next given which classes have work; None when neither has."""
        if not bulk:
            self._passed_over = 0
            return Priority.INTERACTIVE if interactive else None
        if interactive and self._passed_over < self._bulk_every - 1:
            self._passed_over += 1
            return Priority.INTERACTIVE
        self._passed_over = 0
        return Priority.BULK
