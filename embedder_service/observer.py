"""What the engine tells about its work as it happens; metrics.py makes figures of it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from embedder_service.fair_share import Priority
from embedder_service.job import Tower


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
