"""The dynamic batcher: device threads that never wait while there is work.

Work is dispatched at once when the device is idle and gathers while it is busy. All calls and streams share
it. Results are scattered into each call's own matrix, and the event loop is notified of finished calls once
per forward pass. Rows may be put from any thread: those that preprocess put straight into the queue.

On a CPU, two passes in parallel with half the cores each do more than one with all of them: no core waits for
the others at the end of each layer. Each device thread is a *lane*. A pass that runs alone takes all cores:
an idle service answers as soon as it can. While interactive calls are active, bulk work leaves one lane free
for them. While another pass runs, a small batch waits a moment for rows that are being preprocessed: without
this delay, one lane takes what arrives row by row while the other takes all the rest.

One lock, `Batcher._changed`, guards everything that more than one thread changes: the queue and the batching
delay (batch_queue.py), the batches in flight, the fields of every `Job` (jobs.py), `_refusal` and the counts
of `progress`. Its invariants:

- A row has one writer. Its features are written by the lane that computed it or by the thread that answers
  it, and then `Job.unanswered` falls by one. A row that was dropped from the queue is never counted.
- A job ends once: `ended` turns True when its last row is counted or when it fails as a whole, and the thread
  that turned it delivers the job to the event loop. Later rows of the job change nothing.
- `Job.expected <= Job.unanswered`: a row is expected until it is put, answered or failed.
- A group of rows is in the queue, in a batch in flight, or both in part (`RowGroup.taken`); `progress` counts
  it from `put` until its last row is computed or it is dropped.
- After `_refusal` is set no group enters the queue, and lanes end when it is empty.
- The lock is never held during a forward pass, nor while waiting for one. `open` reads `_refusal` without the
  lock, since `put` looks again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from cir.common.v1 import errors_pb2 as pb
from embedder_service.batching.batch_queue import BatchDelay, BatchQueue
from embedder_service.batching.jobs import (
    Batch,
    Caller,
    DropCause,
    Features,
    Job,
    Observer,
    Priority,
    Row,
    RowGroup,
    Rows,
    Tower,
)
from embedder_service.batching.scheduling import RecentActivity
from service_runtime.auth import current_caller
from service_runtime.errors import ServiceError
from service_runtime.logging import get_logger
from service_runtime.watchdog import Progress

#: A forward pass: rows (n, ...) to float32 (n, d).
Forward = Callable[[npt.NDArray[Any]], Features]
#: Start of a forward pass; what it returns waits for the result (see model/cuda.py).
Launch = Callable[[Sequence[Row]], Callable[[], Features]]
#: Called on a device thread before each pass, with the number of passes that share the device.
ShareDevice = Callable[[int], None]

_FOREVER = float("inf")


@dataclass(slots=True, eq=False)
class _InFlightBatch:
    """A batch on its way through the device; `result` waits for its features."""

    batch: Batch
    rows: list[Row]
    started: float
    result: Callable[[], Features]


class Batcher:
    """Runs the towers' forward passes on its own threads, on `lanes` of them in parallel.

    `forwards` maps each tower to a function from rows (n, ...) to float32 (n, d) that as many threads as
    there are lanes may call at a time; `share_device` is called before each pass with the number of lanes at
    work. With `launches`, and one lane, a full batch is launched before the previous one has come back. Call
    `start` on the event loop that opens jobs. Callers bound how much may wait (see admission.py).
    """

    def __init__(
        self,
        forwards: Mapping[Tower, Forward],
        *,
        dimension: int,
        max_batch: int,
        shared_bulk_batch: int,
        launches: Mapping[Tower, Launch] | None = None,
        lanes: int = 1,
        share_device: ShareDevice | None = None,
        activity: RecentActivity | None = None,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._forwards = forwards
        if launches is not None and lanes > 1:
            raise ValueError("passes are launched one after the other: one lane")
        self._launches = launches
        self._lanes = lanes
        self._share_device = share_device
        self._dimension = dimension
        self._activity = activity or RecentActivity(clock)
        self._observer = observer or Observer()
        self._queue = BatchQueue(max_batch, shared_bulk_batch, self._activity, clock)
        self._clock = clock
        self._delay = BatchDelay(clock)
        self._changed = threading.Condition()
        self._in_flight: list[Batch] = []
        self._refusal = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = [
            threading.Thread(target=self._run, name=f"embedder-device-{lane}", daemon=True)
            for lane in range(lanes)
        ]
        self.progress = Progress(clock)

    def start(self) -> None:
        """Start the device threads; results go to the running event loop."""
        self._loop = asyncio.get_running_loop()
        for thread in self._threads:
            thread.start()

    def waiting(self) -> dict[tuple[Tower, Priority], int]:
        """Return the number of rows that wait for the device, by tower and class."""
        with self._changed:
            return self._queue.rows

    def open(
        self,
        tower: Tower,
        features: Features,
        rows: int,
        *,
        caller: Caller = None,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float = _FOREVER,
    ) -> Job:
        """Open a job of `rows` rows (at least one), whose results go into `features`, float32 (n, d).

        Each row must then be put, answered or failed. The job's future gives the job when all are; it raises
        ServiceError (DEADLINE) when `deadline`, on the batcher's clock, passes before. When it is cancelled,
        the rows leave the queue before their forward pass. A row whose forward pass fails is named in the
        job's `errors`, and no other row is affected. Jobs of one `caller` share its turns; without one, a
        job is its own caller. The jobs of one API key share turns as well: see `current_caller`.

        Raises:
            ServiceError: NOT_READY after `close` or the end of a device thread.
        """
        if self._loop is None:
            raise RuntimeError("the batcher has not been started")
        if self._refusal:
            raise ServiceError(pb.NOT_READY, self._refusal)
        future: asyncio.Future[Job] = self._loop.create_future()
        owner = object() if caller is None else caller
        party = current_caller() or None
        job = Job(tower, owner, priority, deadline, features, rows, future, party)
        self._delay.expect(job)
        future.add_done_callback(lambda _: self._delay.forget(job))
        if priority is Priority.INTERACTIVE:
            self._activity.call_started()
            future.add_done_callback(lambda _: self._activity.call_ended())
        return job

    def submit(self, tower: Tower, rows: npt.NDArray[Any], **options: Any) -> asyncio.Future[Job]:
        """Open a job for rows (n, ...) and put them all; options as for `open`."""
        features = np.full((len(rows), self._dimension), np.nan, np.float32)
        job = self.open(tower, features, len(rows), **options)
        if len(rows):
            self.put(job, rows, range(len(rows)))
        else:
            job.future.set_result(job)
        return job.future

    def put(self, job: Job, rows: Rows, indices: Sequence[int], *, seconds: float = 0.0) -> None:
        """Queue rows of a job that belong at `indices` and took `seconds` to preprocess. From any thread."""
        with self._changed:
            job.decode_seconds = max(job.decode_seconds, seconds)
            self._delay.arrived(job, len(rows))
            if job.abandoned:
                self._observer.dropped(job.tower, self._drop_cause(job), len(rows))
            elif self._refusal:
                self._fail(job, ServiceError(pb.NOT_READY, self._refusal))
            else:
                self._queue.put(RowGroup(job, rows, indices, self._clock()))
                self.progress.begin()
                self._changed.notify()

    def answer(self, job: Job, index: int, features: npt.NDArray[np.float32]) -> None:
        """Answer one row, float32 (d,), without the device. From any thread."""
        job.features[index] = features
        self._observer.embedded(job.tower, 1)
        with self._changed:
            self._answer_row(job)

    def fail_row(self, job: Job, index: int, error: Exception) -> None:
        """Answer one row with an error. From any thread."""
        self._observer.item_failed(job.tower, error)
        with self._changed:
            job.errors[index] = error
            self._answer_row(job)

    def fail(self, job: Job, error: Exception) -> None:
        """Fail a job as a whole. From any thread."""
        with self._changed:
            self._fail(job, error)

    async def close(self, timeout: float = 30.0) -> None:
        """Refuse new rows, finish those that wait, end the threads."""
        with self._changed:
            self._refusal = self._refusal or "the embedder is stopping; try another replica"
            self._changed.notify_all()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            if thread.is_alive():
                await asyncio.to_thread(thread.join, max(0.0, deadline - time.monotonic()))
        # What the threads delivered last is still on its way to the futures.
        await asyncio.sleep(0)

    # ---- lanes ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            # No item causes this: an item's error is caught in _compute.
            get_logger().critical("a device thread has ended", exc_info=error)
            self._abort(error)

    def _work(self) -> None:
        in_flight: _InFlightBatch | None = None
        while True:
            batch = self._next_batch(wait=in_flight is None)
            if batch is None and in_flight is None:
                return
            dispatched = None if batch is None else self._dispatch(batch)
            if in_flight is not None:
                self._complete(in_flight)
            in_flight = dispatched
            if in_flight is not None and self._launches is None:
                self._complete(in_flight)
                in_flight = None

    def _next_batch(self, *, wait: bool) -> Batch | None:
        """Return the next batch; None when closing and nothing is left.

        Without `wait` only a full batch is taken: a smaller one keeps gathering while the device is busy.
        """
        since: float | None = None
        with self._changed:
            while True:
                if self._queue and since is None:
                    since = self._clock()
                if since is not None and (delay := self._delay_seconds(since)):
                    self._changed.wait(delay)
                    continue
                bulk = sum(batch.priority is Priority.BULK for batch in self._in_flight)
                reserve = 0 < self._lanes - 1 <= bulk
                batch = None
                if wait or self._queue.full:
                    batch = self._queue.take(self._lanes, self._in_flight, reserve=reserve)
                self._drop_expired(self._queue.dropped)
                self._queue.dropped = []
                if batch is not None:
                    self._in_flight.append(batch)
                    if self._queue:
                        # A put wakes one lane only, and this one left something.
                        self._changed.notify()
                if batch is not None or not wait or self._refusal:
                    return batch
                self._changed.wait()
                since = None

    def _delay_seconds(self, since: float) -> float:
        """Return the seconds to wait for a fuller batch; 0 for an idle device."""
        if not self._in_flight or self._lanes == 1 or self._refusal:
            return 0.0
        waiting = dict.fromkeys(Priority, 0)
        for (_, priority), rows in self._queue.rows.items():
            waiting[priority] += rows
        priority = Priority.INTERACTIVE if waiting[Priority.INTERACTIVE] else Priority.BULK
        return self._delay.seconds(waiting[priority], priority, since)

    def _dispatch(self, batch: Batch) -> _InFlightBatch:
        rows, started = batch.rows(), self._clock()
        self.progress.begin()
        if self._share_device is not None:
            with self._changed:
                alone = len(self._in_flight) == 1 and not self._queue
            self._share_device(1 if alone else self._lanes)
        if self._launches is None:
            return _InFlightBatch(batch, rows, started, lambda: self._forwards[batch.tower](np.stack(rows)))
        try:
            return _InFlightBatch(batch, rows, started, self._launches[batch.tower](rows))
        except Exception as error:
            failure = error

            def fail() -> Features:
                raise failure

            return _InFlightBatch(batch, rows, started, fail)

    def _complete(self, in_flight: _InFlightBatch) -> None:
        """Wait for the result, scatter it into the jobs' matrices, notify the event loop once."""
        batch, started = in_flight.batch, in_flight.started
        features = np.full((len(in_flight.rows), self._dimension), np.nan, np.float32)
        errors: dict[int, Exception] = {}
        self._compute(batch.tower, in_flight.rows, 0, features, errors, in_flight.result)
        seconds = self._clock() - started
        waits: list[float] = []
        finished: list[Job] = []
        offset = 0
        with self._changed:
            for job, segments in groupby(batch.segments, key=lambda segment: segment.group.job):
                indices: list[int] = []
                longest = 0.0
                for segment in segments:
                    indices.extend(segment.group.indices[segment.start : segment.stop])
                    longest = max(longest, started - segment.group.submitted)
                    if segment.stop == len(segment.group.rows):
                        self.progress.end()
                stop = offset + len(indices)
                job.features[indices] = features[offset:stop]
                if errors:
                    job.errors.update(
                        {indices[row - offset]: errors[row] for row in errors if offset <= row < stop}
                    )
                job.queue_seconds = max(job.queue_seconds, longest)
                job.forward_seconds = max(job.forward_seconds, seconds)
                waits.append(longest)
                if self._count_answered(job, len(indices)):
                    finished.append(job)
                offset = stop
            self._in_flight.remove(batch)
            self._delay.pass_seconds = seconds
            self.progress.end()
        self._deliver(finished)
        self._observer.passed(batch.tower, batch.priority, offset, waits, seconds)
        self._observer.embedded(batch.tower, offset - len(errors))
        for error in errors.values():
            self._observer.item_failed(batch.tower, error)

    def _compute(
        self,
        tower: Tower,
        rows: list[Row],
        offset: int,
        features: Features,
        errors: dict[int, Exception],
        attempt: Callable[[], Features],
    ) -> None:
        """Fill `features` from `offset`; on failure halve, so that only the rows that cause it fail."""
        try:
            result = attempt()
            if result.shape != (len(rows), self._dimension):
                raise ValueError(f"the model answered {result.shape} for {len(rows)} rows")
            features[offset : offset + len(rows)] = result
        except Exception as error:
            # Whatever the model raises concerns these rows only: the device thread must outlive it.
            if len(rows) == 1:
                features[offset] = np.nan
                errors[offset] = error
                return
            half = len(rows) // 2
            for start, part in ((offset, rows[:half]), (offset + half, rows[half:])):

                def again(part: list[Row] = part) -> Features:
                    return self._forwards[tower](np.stack(part))

                self._compute(tower, part, start, features, errors, again)
            return
        for row in np.flatnonzero(~np.isfinite(result).all(axis=1)).tolist():
            features[offset + row] = np.nan
            errors[offset + row] = ValueError("the model's features are not finite")

    # ---- with the lock held -----------------------------------------------------------------------------

    def _drop_expired(self, groups: list[RowGroup]) -> None:
        """Account for groups that leave without a forward pass."""
        for group in groups:
            self.progress.end()
            cause = self._drop_cause(group.job)
            self._observer.dropped(group.job.tower, cause, len(group.rows) - group.taken)
            if cause is DropCause.EXPIRED:
                self._fail(
                    group.job,
                    ServiceError(
                        pb.DEADLINE, "the call's time ran out in the queue; send it with a longer deadline"
                    ),
                )

    def _drop_cause(self, job: Job) -> DropCause:
        return DropCause.EXPIRED if job.deadline <= self._clock() else DropCause.CANCELLED

    def _answer_row(self, job: Job) -> None:
        """Count a row that was answered without having been put."""
        self._delay.arrived(job, 1)
        if self._count_answered(job, 1):
            self._deliver([job])

    @staticmethod
    def _count_answered(job: Job, rows: int) -> bool:
        """Count rows as answered; return True when they end the job."""
        job.unanswered -= rows
        if job.unanswered or job.ended:
            return False
        job.ended = True
        return True

    def _fail(self, job: Job, error: Exception) -> None:
        if not job.ended:
            job.ended = True
            job.failure = error
            self._deliver([job])

    # ---- from any thread --------------------------------------------------------------------------------

    def _abort(self, error: BaseException) -> None:
        """Fail every job, refuse new ones, and leave a stall for the watchdog to see."""
        with self._changed:
            self._refusal = "a device thread of this embedder has ended; try another replica"
            self.progress.begin()
            failure = ServiceError(pb.MODEL_FAILED, "the model failed; the service's log has the reason")
            failure.__cause__ = error
            for batch in self._in_flight:
                for segment in batch.segments:
                    self._fail(segment.group.job, failure)
            for group in self._queue.groups():
                self._fail(group.job, ServiceError(pb.NOT_READY, self._refusal))
            self._changed.notify_all()

    def _deliver(self, jobs: list[Job]) -> None:
        """Set the futures of jobs that have ended, on their event loop."""
        if not jobs:
            return
        assert self._loop is not None  # noqa: S101  # set by start
        try:
            self._loop.call_soon_threadsafe(_set_futures, jobs)
        except RuntimeError:
            # The event loop has ended, and everybody who waited with it.
            return


def _set_futures(jobs: list[Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.failure is None:
            job.future.set_result(job)
        else:
            job.future.set_exception(job.failure)
