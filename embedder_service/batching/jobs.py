"""Work as the batcher sees it: a job for each call and tower, its rows, and the batches made of them."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt


class Priority(IntEnum):
    """Class of a call's work."""

    INTERACTIVE = 0
    BULK = 1


Row = npt.NDArray[Any]
#: Rows of equal shape: a matrix, or one array each.
Rows = Sequence[Row] | npt.NDArray[Any]
Features = npt.NDArray[np.float32]
#: Who a share of the machine is counted for: a call, or a stream with all its batches.
Caller = Hashable


class Tower(StrEnum):
    """One of the two encoders of CLIP."""

    IMAGE = "image"
    TEXT = "text"


@dataclass(slots=True, eq=False)
class Job:
    """The rows of one call that go through one tower.

    `features` is float32 (n, d), NaN until a row is answered; results are scattered into it. `errors` names
    the rows that failed. `future` gives the job itself once no row is open, on the event loop; `coming` of
    the open rows have not been put yet. Seconds are those of the slowest row in each stage. Fields are
    changed under the batcher's lock.
    """

    tower: Tower
    caller: Caller
    priority: Priority
    deadline: float
    features: Features
    open: int
    future: asyncio.Future[Job]
    errors: dict[int, Exception] = field(default_factory=dict)
    failure: Exception | None = None
    ended: bool = False
    coming: int = 0
    decode_seconds: float = 0.0
    queue_seconds: float = 0.0
    forward_seconds: float = 0.0

    @property
    def dead(self) -> bool:
        """Whether nobody waits for further rows: answered, failed as a whole, or cancelled."""
        return self.ended or self.future.done()


@dataclass(slots=True, eq=False)
class RowGroup:
    """Rows of a job that became ready together; a forward pass may take some of them.

    `indices` are their places in the job's features; `taken` counts those that a batch has taken.
    """

    job: Job
    rows: Rows
    indices: Sequence[int]
    submitted: float
    taken: int = 0


@dataclass(slots=True, eq=False)
class Segment:
    """Rows `start` to `stop` (excluded) of a piece."""

    piece: RowGroup
    start: int
    stop: int


@dataclass(slots=True, eq=False)
class Batch:
    """Segments that go through one tower in one forward pass."""

    tower: Tower
    priority: Priority
    segments: list[Segment]

    def __len__(self) -> int:
        return sum(part.stop - part.start for part in self.segments)

    def rows(self) -> list[Row]:
        """The rows of all segments, in order."""
        return [row for part in self.segments for row in part.piece.rows[part.start : part.stop]]


class Dropped(StrEnum):
    """Why an item left without an answer of its own."""

    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Observer:
    """Told of everything that is counted; does nothing by itself. Called from several threads."""

    def passed(
        self, tower: Tower, priority: Priority, rows: int, queue_seconds: Sequence[float], seconds: float
    ) -> None:
        """A batch went through a tower; `queue_seconds` has the longest wait of each call in it."""

    def prepared(self, tower: Tower, items: int, seconds: float) -> None:
        """Items were decoded or tokenised together."""

    def embedded(self, tower: Tower, items: int) -> None:
        """Items got features, from a forward pass or a cache."""

    def item_failed(self, tower: Tower, error: Exception) -> None:
        """One item got an error instead of features."""

    def dropped(self, tower: Tower, cause: Dropped, items: int) -> None:
        """Items left before their forward pass."""
