"""Calls that wait to be combined, and the threads that take them, several of one network at a time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cir.combiner.v1 import combiner_pb2 as pb
from cir.common.v1 import errors_pb2
from combiner_service.metrics import CombinerMetrics
from combiner_service.request import CombineCall
from service_runtime.auth import current_caller
from service_runtime.errors import ServiceError
from service_runtime.watchdog import Progress


@dataclass(eq=False, slots=True)
class Job:
    """A call that waits for its answer. Both times are on the queue's clock."""

    call: CombineCall
    deadline: float
    future: asyncio.Future[pb.CombineResponse]
    submitted: float
    caller: str = ""


class CombineQueue:
    """Queue between the event loop, which puts, and the workers, which take.

    Safe to use from several threads. `max_waiting_items` pairs may wait, the last eighth of them for callers
    of whom fewer wait; a call beyond that is refused, unless nothing else waits. Callers take turns.
    `max_forward_items` pairs are handed out together; 1 hands out each call on its own. `gathers` says if
    calls for a name are worth handing out together. At most one worker has calls for such a name at a time:
    those that arrive meanwhile are the next batch.
    """

    def __init__(
        self,
        *,
        max_waiting_items: int,
        max_forward_items: int,
        gathers: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.progress = Progress(clock)
        self._max_waiting = max_waiting_items
        self._max_forward = max_forward_items
        self._gathers = gathers
        self._waiting: dict[Job, None] = {}
        self._waiting_items = 0
        self._items_of: Counter[str] = Counter()
        # Of callers that wait: the number of their last turn.
        self._turns: dict[str, int] = {}
        self._turn = 0
        self._taken: set[str] = set()
        self._closing = False
        self._changed = threading.Condition()

    @property
    def waiting_items(self) -> int:
        """Pairs that wait."""
        return self._waiting_items

    def put(self, job: Job) -> None:
        """Queue a call.

        Raises:
            ServiceError: OVERLOADED, with a time to try again, or NOT_READY after `close`.
        """
        with self._changed:
            if self._closing:
                raise ServiceError(errors_pb2.NOT_READY, "the service is stopping; try another replica")
            few = self._max_waiting // 8
            limit = self._max_waiting - (few if self._items_of[job.caller] + job.call.items > few else 0)
            if self._waiting and self._waiting_items + job.call.items > limit:
                raise ServiceError(
                    errors_pb2.OVERLOADED,
                    f"{self._waiting_items} pairs wait, {job.call.items} more would exceed the limit of "
                    f"{limit} for this caller (max_waiting_items: {self._max_waiting}); try again later",
                    retry_after=0.2,
                )
            self._waiting[job] = None
            self._waiting_items += job.call.items
            self._items_of[job.caller] += job.call.items
            self.progress.begin()
            self._changed.notify()

    def withdraw(self, job: Job) -> bool:
        """Take back a call that nobody waits for any more; False where a worker has it already."""
        with self._changed:
            if job not in self._waiting:
                return False
            self._remove(job)
            self.progress.end()
            self._changed.notify()
            return True

    def take(self) -> Sequence[Job]:
        """Wait for the next caller's oldest call and what goes with it; nothing once closed and empty."""
        with self._changed:
            while not (jobs := self._next()):
                if self._closing and not self._waiting:
                    return ()
                self._changed.wait()
            return jobs

    def done(self, jobs: Sequence[Job]) -> None:
        """Note that calls that were taken have been answered."""
        with self._changed:
            self._taken.discard(jobs[0].call.name)
            for _ in jobs:
                self.progress.end()
            self._changed.notify_all()

    def close(self) -> None:
        """Refuse new calls; those that wait are still handed out."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _next(self) -> Sequence[Job]:
        free = (job for job in self._waiting if job.call.name not in self._taken)
        first = min(free, key=lambda job: self._turns.get(job.caller, 0), default=None)
        if first is None:
            return ()
        self._turn += 1
        self._turns[first.caller] = self._turn
        jobs = [first]
        if self._max_forward > 1 and self._gathers(first.call.name):
            items = first.call.items
            for job in self._waiting:
                if (
                    job is not first
                    and job.call.name == first.call.name
                    and items + job.call.items <= self._max_forward
                ):
                    jobs.append(job)
                    items += job.call.items
            self._taken.add(first.call.name)
        for job in jobs:
            self._remove(job)
        return jobs

    def _remove(self, job: Job) -> None:
        del self._waiting[job]
        self._waiting_items -= job.call.items
        self._items_of[job.caller] -= job.call.items
        if not self._items_of[job.caller]:
            del self._items_of[job.caller]
            self._turns.pop(job.caller, None)


Outcome = pb.CombineResponse | Exception
# Answers the jobs of one name, in order; an exception takes the place of an answer.
Combine = Callable[[Sequence[Job]], Sequence[Outcome]]


class CombineWorkers:
    """`threads` workers on one queue. For one event loop: `start` on it, then `combine`, then `close`.

    A call that is cancelled while it waits leaves the queue at once; one whose time has run out is refused
    when its turn comes. Neither costs work.
    """

    def __init__(
        self, queue: CombineQueue, combine: Combine, metrics: CombinerMetrics, *, threads: int
    ) -> None:
        self._queue = queue
        self._combine = combine
        self._metrics = metrics
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = [
            threading.Thread(target=self._run, name=f"combine-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        """Start the threads; answers go to the running event loop."""
        self._loop = asyncio.get_running_loop()
        for thread in self._threads:
            thread.start()

    async def combine(self, call: CombineCall, *, seconds_left: float) -> pb.CombineResponse:
        """Return the answer to one call.

        Raises:
            ServiceError: Any refusal; other exceptions are those that combining raises.
        """
        if self._loop is None:
            raise RuntimeError("the workers have not been started")
        now = self._queue.clock()
        job = Job(call, now + seconds_left, self._loop.create_future(), now, current_caller())
        self._queue.put(job)
        try:
            return await job.future
        except asyncio.CancelledError:
            if self._queue.withdraw(job):
                self._metrics.dropped()
            raise

    async def close(self, timeout: float = 30.0) -> None:
        """Refuse new calls, answer those that wait, end the threads."""
        self._queue.close()
        for thread in self._threads:
            if thread.is_alive():
                await asyncio.to_thread(thread.join, timeout)
        # What the threads handed over last is still on its way to the futures.
        await asyncio.sleep(0)

    def _run(self) -> None:
        while jobs := self._queue.take():
            try:
                self._work(jobs)
            finally:
                self._queue.done(jobs)

    def _work(self, jobs: Sequence[Job]) -> None:
        now = self._queue.clock()
        late = [job for job in jobs if job.deadline <= now]
        in_time = [job for job in jobs if job.deadline > now]
        answers: list[tuple[Job, Outcome]] = []
        for job in late:
            self._metrics.dropped()
            error = ServiceError(
                errors_pb2.DEADLINE, "the call's time ran out while it waited; send it with a longer deadline"
            )
            answers.append((job, error))
        for job in in_time:
            self._metrics.started(job.call.name, now - job.submitted)
        if in_time:
            try:
                outcomes = self._combine(in_time)
            except Exception as error:
                # Whatever goes wrong concerns these calls only: the thread must outlive it.
                outcomes = [error] * len(in_time)
            answers += zip(in_time, outcomes, strict=True)
        self._hand_over(answers)

    def _hand_over(self, answers: Sequence[tuple[Job, Outcome]]) -> None:
        assert self._loop is not None  # noqa: S101  # set by start
        try:
            self._loop.call_soon_threadsafe(_deliver, answers)
        except RuntimeError:
            # The loop has ended, and everybody who waited with it.
            return


def _deliver(answers: Sequence[tuple[Job, Outcome]]) -> None:
    for job, outcome in answers:
        if job.future.done():
            continue  # cancelled meanwhile
        if isinstance(outcome, Exception):
            job.future.set_exception(outcome)
        else:
            job.future.set_result(outcome)
