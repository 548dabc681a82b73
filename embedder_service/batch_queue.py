"""What waits for the device, and which of it goes next."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from embedder_service.fair_share import FairShare, Priority

# Bulk batches stay small for this long after interactive work was last seen.
_INTERACTIVE_MEMORY_SECONDS = 2.0

Rows = npt.NDArray[Any]
Features = npt.NDArray[np.float32]


class Tower(StrEnum):
    """One of the two encoders of CLIP."""

    IMAGE = "image"
    TEXT = "text"


@dataclass(slots=True)
class BlockResult:
    """The answer to one block: float32 (k, d) features, with NaN in the rows that `errors` names."""

    features: Features
    errors: dict[int, Exception]
    queue_seconds: float
    forward_seconds: float


@dataclass(slots=True, eq=False)
class Block:
    """Rows that were submitted together; a forward pass may take some of them."""

    tower: Tower
    rows: Rows
    priority: Priority
    deadline: float
    future: asyncio.Future[BlockResult]
    submitted: float
    taken: int = 0
    finished: int = 0
    result: BlockResult | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows `start` to `stop` (excluded) of a block."""

    block: Block
    start: int
    stop: int


@dataclass(slots=True)
class Batch:
    """Segments that go through one tower in one forward pass."""

    tower: Tower
    segments: list[Segment]


@dataclass(slots=True)
class BatchQueue:
    """Blocks by tower and class, oldest first. Not safe with threads: the owner holds its lock.

    `max_batch` bounds the rows of a batch; `shared_bulk_batch` bounds bulk batches while interactive calls
    are around, since an interactive item may have to wait for one whole bulk batch.
    """

    max_batch: int
    shared_bulk_batch: int
    clock: Callable[[], float] = time.monotonic
    expired: list[Block] = field(default_factory=list)
    _waiting: dict[Priority, dict[Tower, deque[Block]]] = field(
        default_factory=lambda: {priority: {tower: deque() for tower in Tower} for priority in Priority}
    )
    _share: FairShare = field(default_factory=FairShare)
    _last_tower: Tower = Tower.TEXT
    _last_interactive: float = float("-inf")

    def put(self, block: Block) -> None:
        """Append a block."""
        self._waiting[block.priority][block.tower].append(block)

    def __bool__(self) -> bool:
        return any(blocks for towers in self._waiting.values() for blocks in towers.values())

    def take(self) -> Batch | None:
        """Return the next batch, or None when nothing waits.

        Cancelled blocks are dropped; those whose deadline has passed are moved to `expired`.
        """
        now = self.clock()
        for towers in self._waiting.values():
            for blocks in towers.values():
                self._drop_dead(blocks, now)
        if any(self._waiting[Priority.INTERACTIVE].values()):
            self._last_interactive = now
        priority = self._share.pick(
            interactive=any(self._waiting[Priority.INTERACTIVE].values()),
            bulk=any(self._waiting[Priority.BULK].values()),
        )
        if priority is None:
            return None
        tower = self._next_tower(self._waiting[priority])
        limit = self.max_batch
        if priority is Priority.BULK and now - self._last_interactive < _INTERACTIVE_MEMORY_SECONDS:
            limit = min(limit, self.shared_bulk_batch)
        return Batch(tower, self._gather(self._waiting[priority][tower], limit, now))

    def _next_tower(self, waiting: dict[Tower, deque[Block]]) -> Tower:
        """Return the tower that was not served last if it has work, so that neither holds up the other."""
        other = Tower.TEXT if self._last_tower is Tower.IMAGE else Tower.IMAGE
        self._last_tower = other if waiting[other] else self._last_tower
        return self._last_tower

    def _gather(self, blocks: deque[Block], limit: int, now: float) -> list[Segment]:
        segments: list[Segment] = []
        while blocks and limit > 0:
            block = blocks[0]
            stop = min(block.taken + limit, len(block.rows))
            segments.append(Segment(block, block.taken, stop))
            limit -= stop - block.taken
            block.taken = stop
            if stop == len(block.rows):
                blocks.popleft()
            self._drop_dead(blocks, now)
        return segments

    def _drop_dead(self, blocks: deque[Block], now: float) -> None:
        while blocks and (blocks[0].future.done() or blocks[0].deadline <= now):
            block = blocks.popleft()
            if not block.future.done():
                self.expired.append(block)
