"""Work as the batcher sees it: a job for each call and tower, its rows, and the batches made of them."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[Any]
#: Rows of equal shape: a matrix, or one array each.
Rows = Sequence[Row] | npt.NDArray[Any]
#: Raw features of the model, float32 (n, d).
Features = npt.NDArray[np.float32]
#: Token ids of texts, int64 (n, context).
Tokens = npt.NDArray[np.int64]
#: Owner of a turn in the queues: a call, or a stream with all its batches.
Caller = Hashable


class Priority(IntEnum):
    """Class of a call's work."""

    INTERACTIVE = 0
    BULK = 1


class Tower(StrEnum):
    """One of the two encoders of CLIP; PROMPT is the text encoder with word embeddings among its tokens.

    JOINT stands for the joint encoders, which read image and text together.
    """

    IMAGE = "image"
    TEXT = "text"
    PROMPT = "prompt"
    JOINT = "joint"


@dataclass(slots=True, eq=False)
class Job:
    """The rows of one call that go through one tower.

    `features` is float32 (n, d), NaN until a row is answered; results are scattered into it. `unanswered`
    counts rows without a result, `expected` those of them that have not been put into the queue yet.
    `errors` has an exception for each row that failed; `failure` is the one exception of a job that failed
    as a whole. `future` gives the job itself once every row is answered, on the event loop. `party` is who
    made the call, whose calls take turns as one. Seconds are those of the slowest row in each stage. Fields
    are changed under the batcher's lock (see batcher.py).
    """

    tower: Tower
    caller: Caller
    priority: Priority
    deadline: float
    features: Features
    unanswered: int
    future: asyncio.Future[Job]
    party: Hashable = None
    errors: dict[int, Exception] = field(default_factory=dict)
    failure: Exception | None = None
    ended: bool = False
    expected: int = 0
    decode_seconds: float = 0.0
    queue_seconds: float = 0.0
    forward_seconds: float = 0.0

    @property
    def abandoned(self) -> bool:
        """True when nobody waits for further rows: the job was answered, failed as a whole, or cancelled."""
        return self.ended or self.future.done()


@dataclass(slots=True, eq=False)
class RowGroup:
    """Rows of a job that became ready together; a forward pass may take only some of them.

    `indices` are their places in the job's features; `taken` counts those that a batch has taken.
    `submitted` is the time, on the batcher's clock, when they were put into the queue.
    """

    job: Job
    rows: Rows
    indices: Sequence[int]
    submitted: float
    taken: int = 0


@dataclass(slots=True, eq=False)
class Segment:
    """Rows `start` to `stop` (excluded) of a group."""

    group: RowGroup
    start: int
    stop: int


@dataclass(slots=True, eq=False)
class Batch:
    """Segments that go through one tower in one forward pass."""

    tower: Tower
    priority: Priority
    segments: list[Segment]

    def __len__(self) -> int:
        return sum(segment.stop - segment.start for segment in self.segments)

    def rows(self) -> list[Row]:
        """Return the rows of all segments, in order."""
        return [row for segment in self.segments for row in segment.group.rows[segment.start : segment.stop]]


class DropCause(StrEnum):
    """Reason why an item left without an answer of its own."""

    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Observer:
    """Receiver of everything that is counted; does nothing by itself (metrics.py makes figures of it).

    Methods are called from several threads.
    """

    def passed(
        self, tower: Tower, priority: Priority, rows: int, queue_seconds: Sequence[float], seconds: float
    ) -> None:
        """Record a forward pass; `queue_seconds` has the longest wait of each call in it."""

    def prepared(self, tower: Tower, items: int, seconds: float) -> None:
        """Record that items were preprocessed or tokenised together."""

    def embedded(self, tower: Tower, items: int) -> None:
        """Record that items got features, from a forward pass or a cache."""

    def item_failed(self, tower: Tower, error: Exception) -> None:
        """Record that one item got an error instead of features."""

    def dropped(self, tower: Tower, cause: DropCause, items: int) -> None:
        """Record that items left before their forward pass."""
