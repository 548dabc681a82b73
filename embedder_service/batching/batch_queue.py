"""Rows that wait for the device, which of them go next, and how long a small batch waits for more."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from embedder_service.batching.jobs import Batch, Job, Priority, RowGroup, Segment, Tower
from embedder_service.batching.scheduling import PriorityPicker, RecentActivity, RoundRobin

CallerQueue = RoundRobin[RowGroup]

# Rows that are worth a pass of their own: dividing fewer would cost more than it gains.
_WORTH_A_PASS = 4


@dataclass(slots=True)
class BatchQueue:
    """Pieces by class and tower; callers take turns. Not safe with threads: the owner holds its lock.

    `max_batch` bounds the rows of a batch; `shared_bulk_batch` bounds bulk batches while interactive calls
    are around, since an interactive item may have to wait for one whole bulk batch. `dropped` collects
    pieces that left without a forward pass, because their call was cancelled or its time ran out.
    """

    max_batch: int
    shared_bulk_batch: int
    presence: RecentActivity
    clock: Callable[[], float] = time.monotonic
    dropped: list[RowGroup] = field(default_factory=list)
    _lanes: dict[Priority, dict[Tower, CallerQueue]] = field(
        default_factory=lambda: {priority: {tower: RoundRobin() for tower in Tower} for priority in Priority}
    )
    _rows: dict[tuple[Tower, Priority], int] = field(
        default_factory=lambda: {(tower, priority): 0 for tower in Tower for priority in Priority}
    )
    _share: PriorityPicker = field(default_factory=PriorityPicker)
    _last_tower: Tower = Tower.TEXT

    def put(self, piece: RowGroup) -> None:
        """Append a piece."""
        job = piece.job
        self._lanes[job.priority][job.tower].put(job.caller, piece)
        self._rows[job.tower, job.priority] += len(piece.rows)

    def __bool__(self) -> bool:
        return any(lane for lanes in self._lanes.values() for lane in lanes.values())

    @property
    def rows(self) -> dict[tuple[Tower, Priority], int]:
        """Rows that wait, by tower and class."""
        return dict(self._rows)

    @property
    def full(self) -> bool:
        """Whether a whole batch waits."""
        return any(rows >= self.max_batch for rows in self._rows.values())

    def pieces(self) -> Iterator[RowGroup]:
        """Everything that waits."""
        for lanes in self._lanes.values():
            for lane in lanes.values():
                yield from lane

    def take(
        self, passes: int = 1, under_way: Sequence[Batch] = (), *, reserve: bool = False
    ) -> Batch | None:
        """Return the next batch, or None when nothing waits.

        Where several `passes` run side by side it takes one's even share, of what is `under_way` in the
        others too: with clients that come again once answered, unequal batches would stay so. With `reserve`,
        bulk work stays while interactive calls are around: this thread is kept for those.
        """
        now = self.clock()
        for lanes in self._lanes.values():
            for lane in lanes.values():
                self._drop_dead(lane, now)
        priority = self._share.pick(
            interactive=any(self._lanes[Priority.INTERACTIVE].values()),
            bulk=any(self._lanes[Priority.BULK].values()) and not (reserve and self.presence.around()),
        )
        if priority is None:
            return None
        tower = self._next_tower(self._lanes[priority])
        limit = self.max_batch
        if priority is Priority.BULK and self.presence.around():
            limit = min(limit, self.shared_bulk_batch)
        rows = self._rows[tower, priority] + sum(
            len(batch) for batch in under_way if (batch.tower, batch.priority) == (tower, priority)
        )
        limit = min(limit, max(_WORTH_A_PASS, -(-rows // passes)))
        return Batch(tower, priority, self._gather(self._lanes[priority][tower], limit, now))

    def _next_tower(self, lanes: dict[Tower, CallerQueue]) -> Tower:
        """Return the tower that was not served last if it has work, so that neither holds up the other."""
        other = Tower.TEXT if self._last_tower is Tower.IMAGE else Tower.IMAGE
        self._last_tower = other if lanes[other] else self._last_tower
        return self._last_tower

    def _gather(self, lane: CallerQueue, limit: int, now: float) -> list[Segment]:
        """Fill a batch: an even share for each caller, and what some leave goes to the others."""
        segments: list[Segment] = []
        while lane and limit > 0:
            share = max(1, limit // lane.callers)
            for _ in range(min(lane.callers, limit)):
                limit -= self._take_turn(lane, min(share, limit), now, segments)
                if not lane:
                    break
        return segments

    def _take_turn(self, lane: CallerQueue, rows: int, now: float, segments: list[Segment]) -> int:
        """Take up to `rows` rows of the caller whose turn it is; return how many there were."""
        caller = lane.next_caller()
        left = rows
        while left > 0 and (piece := lane.oldest(caller)) is not None:
            if _dead(piece, now):
                self._drop(lane, piece)
                continue
            stop = min(piece.taken + left, len(piece.rows))
            segments.append(Segment(piece, piece.taken, stop))
            left -= stop - piece.taken
            self._rows[piece.job.tower, piece.job.priority] -= stop - piece.taken
            piece.taken = stop
            if stop == len(piece.rows):
                lane.drop_oldest(caller)
        lane.end_turn(caller)
        return rows - left

    def _drop_dead(self, lane: CallerQueue, now: float) -> None:
        for _, head in lane.heads():
            piece: RowGroup | None = head
            while piece is not None and _dead(piece, now):
                self._drop(lane, piece)
                piece = lane.oldest(piece.job.caller)

    def _drop(self, lane: CallerQueue, piece: RowGroup) -> None:
        lane.drop_oldest(piece.job.caller)
        self._rows[piece.job.tower, piece.job.priority] -= len(piece.rows) - piece.taken
        self.dropped.append(piece)


def _dead(piece: RowGroup, now: float) -> bool:
    return piece.job.dead or piece.job.deadline <= now


# Parts of the time of the last pass, and the most seconds; waiting longer would cost more than a fuller batch
# gains. Who was answered just now may come again at once.
_WHILE_COMING = (0.1, 0.05)
_AT_LEAST = (0.02, 0.01)
# A batch of this many rows gains little by more of them.
_ENOUGH = 8


@dataclass(slots=True)
class BatchDelay:
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
