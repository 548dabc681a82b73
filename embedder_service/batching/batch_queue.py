"""Rows that wait for the device, which of them go next, and how long a small batch waits for more.

Both classes belong to the batcher and are guarded by its lock; batcher.py documents the invariants.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from embedder_service.batching.jobs import Batch, Job, Priority, RowGroup, Segment, Tower
from embedder_service.batching.scheduling import PriorityPicker, RecentActivity
from service_runtime.turns import RoundRobin

CallerQueue = RoundRobin[RowGroup]

# Rows that are worth a forward pass of their own: dividing fewer would cost more than it gains.
_WORTH_A_PASS = 4

# The delay of a small batch, as a fraction of the last pass and in seconds at most: longer waiting would cost
# more than a fuller batch gains.
_DELAY_WHILE_EXPECTED = (0.1, 0.05)
# Even when no row is expected: a client that was just answered may send its next call at once.
_DELAY_AT_LEAST = (0.02, 0.01)
# A batch of this many rows gains little from more of them.
_ENOUGH_ROWS = 8


@dataclass(slots=True)
class BatchQueue:
    """Groups of rows by class and tower; calls take turns, and those who call do.

    `max_batch` bounds the rows of a batch; `shared_bulk_batch` bounds bulk batches while interactive calls
    are active, since an interactive item may have to wait for one whole bulk batch. `dropped` collects
    groups that left without a forward pass, because their call was cancelled or its time ran out.
    """

    max_batch: int
    shared_bulk_batch: int
    activity: RecentActivity
    clock: Callable[[], float] = time.monotonic
    dropped: list[RowGroup] = field(default_factory=list)
    _queues: dict[Priority, dict[Tower, CallerQueue]] = field(
        default_factory=lambda: {priority: {tower: RoundRobin() for tower in Tower} for priority in Priority}
    )
    _rows: dict[tuple[Tower, Priority], int] = field(
        default_factory=lambda: {(tower, priority): 0 for tower in Tower for priority in Priority}
    )
    _picker: PriorityPicker = field(default_factory=PriorityPicker)
    _last_tower: Tower = Tower.TEXT

    def put(self, group: RowGroup) -> None:
        """Append a group."""
        job = group.job
        self._queues[job.priority][job.tower].put(job.caller, group, party=job.party)
        self._rows[job.tower, job.priority] += len(group.rows)

    def __bool__(self) -> bool:
        return any(queue for queues in self._queues.values() for queue in queues.values())

    @property
    def rows(self) -> dict[tuple[Tower, Priority], int]:
        """Number of rows that wait, by tower and class."""
        return dict(self._rows)

    @property
    def full(self) -> bool:
        """True when a whole batch waits."""
        return any(rows >= self.max_batch for rows in self._rows.values())

    def groups(self) -> Iterator[RowGroup]:
        """Iterate over every group that waits."""
        for queues in self._queues.values():
            for queue in queues.values():
                yield from queue

    def take(self, lanes: int = 1, in_flight: Sequence[Batch] = (), *, reserve: bool = False) -> Batch | None:
        """Return the next batch, or None when nothing waits.

        Where passes run on several `lanes` in parallel, the batch gets an equal part of the rows that wait
        and of those that are `in_flight` on the other lanes: clients that call again once answered would
        otherwise keep unequal batches unequal. With `reserve`, bulk work stays in the queue while
        interactive calls are active: this lane is kept for them.
        """
        now = self.clock()
        for queues in self._queues.values():
            for queue in queues.values():
                self._drop_expired(queue, now)
        priority = self._picker.pick(
            interactive=any(self._queues[Priority.INTERACTIVE].values()),
            bulk=any(self._queues[Priority.BULK].values()) and not (reserve and self.activity.is_active()),
        )
        if priority is None:
            return None
        tower = self._next_tower(self._queues[priority])
        limit = self.max_batch
        if priority is Priority.BULK and self.activity.is_active():
            limit = min(limit, self.shared_bulk_batch)
        rows = self._rows[tower, priority] + sum(
            len(batch) for batch in in_flight if (batch.tower, batch.priority) == (tower, priority)
        )
        limit = min(limit, max(_WORTH_A_PASS, -(-rows // lanes)))
        return Batch(tower, priority, self._gather(self._queues[priority][tower], limit, now))

    def _next_tower(self, queues: dict[Tower, CallerQueue]) -> Tower:
        """Return the next tower in turn that has work, so that none holds up the others."""
        towers = list(Tower)
        start = towers.index(self._last_tower) + 1
        turns = (*towers[start:], *towers[:start])
        self._last_tower = next((tower for tower in turns if queues[tower]), self._last_tower)
        return self._last_tower

    def _gather(self, queue: CallerQueue, limit: int, now: float) -> list[Segment]:
        """Fill a batch: an equal number of rows for each caller; unused ones go to the other callers."""
        segments: list[Segment] = []
        while queue and limit > 0:
            rows_each = max(1, limit // queue.callers)
            for _ in range(min(queue.callers, limit)):
                limit -= self._take_turn(queue, min(rows_each, limit), now, segments)
                if not queue:
                    break
        return segments

    def _take_turn(self, queue: CallerQueue, rows: int, now: float, segments: list[Segment]) -> int:
        """Take up to `rows` rows of the caller whose turn it is; return how many there were."""
        caller = queue.next_caller()
        left = rows
        while left > 0 and (group := queue.oldest(caller)) is not None:
            if _is_expired(group, now):
                self._drop(queue, group)
                continue
            stop = min(group.taken + left, len(group.rows))
            segments.append(Segment(group, group.taken, stop))
            left -= stop - group.taken
            self._rows[group.job.tower, group.job.priority] -= stop - group.taken
            group.taken = stop
            if stop == len(group.rows):
                queue.drop_oldest(caller)
        queue.end_turn(caller)
        return rows - left

    def _drop_expired(self, queue: CallerQueue, now: float) -> None:
        for _, head in queue.heads():
            group: RowGroup | None = head
            while group is not None and _is_expired(group, now):
                self._drop(queue, group)
                group = queue.oldest(group.job.caller)

    def _drop(self, queue: CallerQueue, group: RowGroup) -> None:
        queue.drop_oldest(group.job.caller)
        self._rows[group.job.tower, group.job.priority] -= len(group.rows) - group.taken
        self.dropped.append(group)


def _is_expired(group: RowGroup, now: float) -> bool:
    return group.job.abandoned or group.job.deadline <= now


@dataclass(slots=True)
class BatchDelay:
    """The batching delay: how long a small batch waits for more rows while another pass runs.

    Rows are expected from the opening of their job until they are put into the queue. `expect` and `forget`
    are called on the event loop and take no lock; the other methods are called under the batcher's lock.
    `pass_seconds` is the duration of the last forward pass.
    """

    clock: Callable[[], float]
    pass_seconds: float = 0.0
    # Each counter has one writer at a time: the event loop writes `_opened`, the lock's holder `_settled`.
    _opened: dict[Priority, int] = field(default_factory=lambda: dict.fromkeys(Priority, 0))
    _settled: dict[Priority, int] = field(default_factory=lambda: dict.fromkeys(Priority, 0))
    _forgotten: deque[Job] = field(default_factory=deque)

    def expect(self, job: Job) -> None:
        """Expect all rows of a job."""
        job.expected = job.unanswered
        self._opened[job.priority] += job.expected

    def forget(self, job: Job) -> None:
        """Expect no further row of a job: it has ended."""
        self._forgotten.append(job)

    def arrived(self, job: Job, rows: int) -> None:
        """Count rows that are no longer expected: they are in the queue, or answered without it."""
        self._settle(job, min(rows, job.expected))
        self._settle_forgotten()

    def seconds(self, waiting: int, priority: Priority, since: float) -> float:
        """Return for how many more seconds a batch should wait; 0 to start its pass at once.

        `waiting` rows of the class are in the queue; `since` is when a lane could first have taken them.
        """
        if waiting >= _ENOUGH_ROWS:
            return 0.0
        self._settle_forgotten()
        expected = self._opened[priority] - self._settled[priority]
        fraction, most = _DELAY_WHILE_EXPECTED if expected else _DELAY_AT_LEAST
        return max(0.0, since + min(fraction * self.pass_seconds, most) - self.clock())

    def _settle_forgotten(self) -> None:
        while self._forgotten:
            job = self._forgotten.popleft()
            self._settle(job, job.expected)

    def _settle(self, job: Job, rows: int) -> None:
        job.expected -= rows
        self._settled[job.priority] += rows
