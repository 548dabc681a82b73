"""Writing embedded items into a version, in batches, while the next ones are embedded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from indexer.errors import IndexingError
from indexer.items import EmbeddedItem
from indexer.report import Tally
from indexer.retry import retrying
from vector_store.contract import VersionWriter
from vector_store.errors import StoreError, StoreLocked, StoreUnavailable
from vector_store.points import PointBatch


class BatchWriter:
    """Gathers items and writes them `write_items` at a time; `tally.indexed` counts what was acknowledged."""

    def __init__(
        self, writer: VersionWriter, tally: Tally, *, write_items: int, retry_seconds: float
    ) -> None:
        self._writer = writer
        self._tally = tally
        self._write_items = write_items
        self._retry_seconds = retry_seconds
        self._waiting: list[EmbeddedItem] = []

    async def write(self, items: Sequence[EmbeddedItem]) -> None:
        """Take items; writes when enough have gathered. Raises `IndexingError` when the store refuses."""
        self._waiting.extend(items)
        while len(self._waiting) >= self._write_items:
            await self._upsert(self._write_items)

    async def flush(self) -> None:
        """Write what is left."""
        if self._waiting:
            await self._upsert(len(self._waiting))

    async def _upsert(self, count: int) -> None:
        items, self._waiting = self._waiting[:count], self._waiting[count:]
        batch = point_batch(items)
        try:
            await retrying(
                lambda: self._writer.upsert(batch), wait_asked=_wait_asked, seconds=self._retry_seconds
            )
        except StoreError as error:
            raise IndexingError(f"the store did not take a batch of {count} items: {error}") from error
        self._tally.indexed += count


def point_batch(items: Sequence[EmbeddedItem]) -> PointBatch:
    """The batch that a store takes, one row for each item."""
    return PointBatch(
        ids=[entry.item.id for entry in items],
        features=np.stack([entry.features for entry in items]),
        payloads=[entry.item.payload for entry in items],
        images=[entry.item.image for entry in items],
    )


def _wait_asked(error: Exception) -> float | None:
    # Writing the same items again changes nothing, so a write whose answer was lost may be repeated.
    return 0.0 if isinstance(error, StoreUnavailable) and not isinstance(error, StoreLocked) else None
