"""Rows on their way to the device: their call is there, and they are still being decoded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from embedder_service.fair_share import Priority
from embedder_service.job import Job

# Parts of the time of the last pass, and the most seconds; waiting longer would cost more than a fuller batch
# gains. Who was answered just now may come again at once.
_WHILE_COMING = (0.1, 0.05)
_AT_LEAST = (0.02, 0.01)
# A batch of this many rows gains little by more of them.
_ENOUGH = 8


@dataclass(slots=True)
class Coming:
    """Knows how long a small batch should wait for more, beside a pass that is under way.

    Counts rows between the opening of their job and their coming into the queue. `opened` and `left` are
    called on the event loop and wait for no lock; for the others the owner holds its lock. `pass_seconds` is
    what the last forward pass took.
    """

    clock: Callable[[], float]
    pass_seconds: float = 0.0
    # Each counter has one writer at a time: the event loop, and whoever holds the lock.
    _opened: dict[Priority, int] = field(default_factory=lambda: dict.fromkeys(Priority, 0))
    _settled: dict[Priority, int] = field(default_factory=lambda: dict.fromkeys(Priority, 0))
    _left: deque[Job] = field(default_factory=deque)

    def opened(self, job: Job) -> None:
        """Expect all rows of a job."""
        job.coming = job.open
        self._opened[job.priority] += job.coming

    def left(self, job: Job) -> None:
        """The job has ended: none of its rows is expected."""
        self._left.append(job)

    def came(self, job: Job, rows: int) -> None:
        """These rows wait for nothing any more: they are in the queue, or answered without it."""
        self._settle(job, min(rows, job.coming))
        self._settle_left()

    def patience(self, waiting: int, priority: Priority, since: float) -> float:
        """Seconds that a batch of the `waiting` rows of a class should wait for more; 0 to go at once.

        `since` is when a thread could first have taken them.
        """
        if waiting >= _ENOUGH:
            return 0.0
        self._settle_left()
        expected = self._opened[priority] - self._settled[priority]
        part, most = _WHILE_COMING if expected else _AT_LEAST
        return max(0.0, since + min(part * self.pass_seconds, most) - self.clock())

    def _settle_left(self) -> None:
        while self._left:
            job = self._left.popleft()
            self._settle(job, job.coming)

    def _settle(self, job: Job, rows: int) -> None:
        job.coming -= rows
        self._settled[job.priority] += rows
