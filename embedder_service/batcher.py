"""The dynamic batcher: one device thread that never waits while there is work.

Work is dispatched at once when the device is idle and gathers while it is busy. All calls and streams share
it. Results come back to the event loop once per forward pass, as slices of one matrix.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from cir.common.v1 import errors_pb2 as pb
from embedder_service.batch_queue import Batch, BatchQueue, Block, BlockResult, Features, Rows, Segment, Tower
from embedder_service.fair_share import Priority
from service_runtime.errors import ServiceError

Forward = Callable[[Rows], Features]


@dataclass(slots=True)
class _Outcome:
    batch: Batch
    features: Features
    errors: dict[int, Exception]
    started: float
    seconds: float


class Batcher:
    """Runs the towers' forward passes, one at a time, on a thread of its own.

    `forwards` maps each tower to a function from rows (n, ...) to float32 (n, d). Call `start` on the event
    loop that submits. How much may wait is bounded by what callers admit (see admission.py).
    """

    def __init__(
        self,
        forwards: Mapping[Tower, Forward],
        *,
        dimension: int,
        max_batch: int,
        shared_bulk_batch: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._forwards = forwards
        self._dimension = dimension
        self._queue = BatchQueue(max_batch, shared_bulk_batch, clock)
        self._clock = clock
        self._changed = threading.Condition()
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="embedder-device", daemon=True)

    def start(self) -> None:
        """Start the device thread; results go to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def submit(
        self,
        tower: Tower,
        rows: Rows,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float = float("inf"),
    ) -> asyncio.Future[BlockResult]:
        """Queue rows of one call; a cancelled future leaves the queue before its forward pass.

        `deadline` is on the batcher's clock. The future raises ServiceError (DEADLINE) when it passes before
        all rows were computed. A row whose forward pass fails is named in the result's `errors`; the others
        are not concerned. Raises ServiceError (NOT_READY) after `close`.
        """
        if self._loop is None:
            raise RuntimeError("the batcher has not been started")
        future: asyncio.Future[BlockResult] = self._loop.create_future()
        if len(rows) == 0:
            future.set_result(self._empty_result(0))
            return future
        block = Block(tower, rows, priority, deadline, future, self._clock())
        with self._changed:
            if self._closing:
                raise ServiceError(pb.NOT_READY, "the embedder is stopping; try another replica")
            self._queue.put(block)
            self._changed.notify()
        return future

    async def close(self, timeout: float = 30.0) -> None:
        """Refuse new rows, finish those that wait, end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, timeout)
            # What the thread handed over last is still on its way to the futures.
            await asyncio.sleep(0)

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            started = self._clock()
            rows = np.concatenate([part.block.rows[part.start : part.stop] for part in batch.segments])
            errors: dict[int, Exception] = {}
            features = np.full((len(rows), self._dimension), np.nan, np.float32)
            self._forward(batch.tower, rows, 0, features, errors)
            self._hand_over(
                self._deliver, _Outcome(batch, features, errors, started, self._clock() - started)
            )

    def _next_batch(self) -> Batch | None:
        """Wait for work; None when closing and nothing is left."""
        with self._changed:
            while True:
                batch = self._queue.take()
                if self._queue.expired:
                    self._hand_over(self._expire, self._queue.expired)
                    self._queue.expired = []
                if batch is not None or self._closing:
                    return batch
                self._changed.wait()

    def _forward(
        self, tower: Tower, rows: Rows, offset: int, features: Features, errors: dict[int, Exception]
    ) -> None:
        """Fill `features` from `offset`; on failure halve, so that the rows at fault fail alone."""
        try:
            result = self._forwards[tower](rows)
            if result.shape != (len(rows), self._dimension):
                raise ValueError(f"the model answered {result.shape} for {len(rows)} rows")
        except Exception as error:
            # Whatever the model raises concerns these rows only: the device thread must outlive it.
            if len(rows) == 1:
                errors[offset] = error
                return
            half = len(rows) // 2
            self._forward(tower, rows[:half], offset, features, errors)
            self._forward(tower, rows[half:], offset + half, features, errors)
            return
        features[offset : offset + len(rows)] = result
        for row in np.flatnonzero(~np.isfinite(result).all(axis=1)).tolist():
            features[offset + row] = np.nan
            errors[offset + row] = ValueError("the model's features are not finite")

    def _hand_over(self, callback: Callable[..., None], argument: object) -> None:
        assert self._loop is not None  # noqa: S101  # set by start
        try:
            self._loop.call_soon_threadsafe(callback, argument)
        except RuntimeError:
            # The loop has ended, and everybody who waited with it.
            return

    def _deliver(self, outcome: _Outcome) -> None:
        offset = 0
        for part in outcome.batch.segments:
            stop = offset + part.stop - part.start
            self._record(part, outcome, offset, stop)
            offset = stop

    def _record(self, part: Segment, outcome: _Outcome, offset: int, stop: int) -> None:
        block = part.block
        if block.result is None:
            block.result = self._empty_result(len(block.rows))
        result = block.result
        result.features[part.start : part.stop] = outcome.features[offset:stop]
        if outcome.errors:
            for row in range(offset, stop):
                if row in outcome.errors:
                    result.errors[part.start + row - offset] = outcome.errors[row]
        result.queue_seconds = max(result.queue_seconds, outcome.started - block.submitted)
        result.forward_seconds = max(result.forward_seconds, outcome.seconds)
        block.finished += part.stop - part.start
        if block.finished == len(block.rows) and not block.future.done():
            block.future.set_result(result)

    def _empty_result(self, rows: int) -> BlockResult:
        return BlockResult(np.full((rows, self._dimension), np.nan, np.float32), {}, 0.0, 0.0)

    @staticmethod
    def _expire(blocks: list[Block]) -> None:
        for block in blocks:
            if not block.future.done():
                block.future.set_exception(
                    ServiceError(
                        pb.DEADLINE, "the call's time ran out in the queue; send it with a longer deadline"
                    )
                )
