"""Threads that combine what waits in the queue, and give each call its answer on the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

from cir.combiner.v1 import combiner_pb2 as pb
from cir.common.v1 import errors_pb2
from combiner_service.combine_queue import CombineQueue, Job
from combiner_service.metrics import CombinerMetrics
from service_runtime.errors import ServiceError

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

    async def combine(
        self, name: str, items: int, request: pb.CombineRequest, *, seconds_left: float
    ) -> pb.CombineResponse:
        """The answer to one call. Raises ServiceError for every refusal, and what else combining raises."""
        if self._loop is None:
            raise RuntimeError("the workers have not been started")
        now = self._queue.clock()
        job = Job(name, items, request, now + seconds_left, self._loop.create_future(), now)
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
            self._metrics.started(job.name, now - job.submitted)
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
