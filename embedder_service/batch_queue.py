"""What waits for the device, and which of it goes next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from embedder_service.fair_share import FairShare, Priority
from embedder_service.job import Batch, Piece, Segment, Tower
from embedder_service.presence import InteractivePresence
from embedder_service.round_robin import RoundRobin

Lane = RoundRobin[Piece]

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
    presence: InteractivePresence
    clock: Callable[[], float] = time.monotonic
    dropped: list[Piece] = field(default_factory=list)
    _lanes: dict[Priority, dict[Tower, Lane]] = field(
        default_factory=lambda: {priority: {tower: RoundRobin() for tower in Tower} for priority in Priority}
    )
    _rows: dict[tuple[Tower, Priority], int] = field(
        default_factory=lambda: {(tower, priority): 0 for tower in Tower for priority in Priority}
    )
    _share: FairShare = field(default_factory=FairShare)
    _last_tower: Tower = Tower.TEXT

    def put(self, piece: Piece) -> None:
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

    def pieces(self) -> Iterator[Piece]:
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

    def _next_tower(self, lanes: dict[Tower, Lane]) -> Tower:
        """Return the tower that was not served last if it has work, so that neither holds up the other."""
        other = Tower.TEXT if self._last_tower is Tower.IMAGE else Tower.IMAGE
        self._last_tower = other if lanes[other] else self._last_tower
        return self._last_tower

    def _gather(self, lane: Lane, limit: int, now: float) -> list[Segment]:
        """Fill a batch: an even share for each caller, and what some leave goes to the others."""
        segments: list[Segment] = []
        while lane and limit > 0:
            share = max(1, limit // lane.callers)
            for _ in range(min(lane.callers, limit)):
                limit -= self._take_turn(lane, min(share, limit), now, segments)
                if not lane:
                    break
        return segments

    def _take_turn(self, lane: Lane, rows: int, now: float, segments: list[Segment]) -> int:
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

    def _drop_dead(self, lane: Lane, now: float) -> None:
        for _, head in lane.heads():
            piece: Piece | None = head
            while piece is not None and _dead(piece, now):
                self._drop(lane, piece)
                piece = lane.oldest(piece.job.caller)

    def _drop(self, lane: Lane, piece: Piece) -> None:
        lane.drop_oldest(piece.job.caller)
        self._rows[piece.job.tower, piece.job.priority] -= len(piece.rows) - piece.taken
        self.dropped.append(piece)


def _dead(piece: Piece, now: float) -> bool:
    return piece.job.dead or piece.job.deadline <= now
