"""Writing items into a version: the ledger's intention, the store's acknowledgement, the ledger's row."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cir.limits import item_id_problem
from cir.retry import retrying
from indexer.errors import IndexingError
from indexer.items import ContentStamp, EmbeddedItem, payload_hash
from indexer.ledger import Ledger, LedgerEntry
from indexer.rejects import Reject
from indexer.report import Tally
from indexer.sources.base import SourceItem
from vector_store.base import VersionWriter
from vector_store.errors import StoreError, StoreLockedError, StoreUnavailableError
from vector_store.types import PointBatch


@dataclass(frozen=True, slots=True)
class LedgerPage:
    """The rows of the version being built; `fingerprint` is set where features are kept as well."""

    ledger: Ledger
    version: int
    fingerprint: str = ""

    def intend(self, items: Sequence[EmbeddedItem]) -> None:
        """Say that items are about to be written. Blocks."""
        self.ledger.put(self.version, [_entry(item, "writing") for item in items])

    def acknowledge(self, items: Sequence[EmbeddedItem]) -> None:
        """Say that the store holds items. Blocks."""
        if self.fingerprint:
            kept = [(item.stamp.content, item.features) for item in items if item.stamp.content]
            self.ledger.keep_features(self.fingerprint, kept)
        self.ledger.put(self.version, [_entry(item, "written") for item in items])

    def reject(self, reject: Reject, item: SourceItem | None, stamp: ContentStamp) -> None:
        """Remember why an item was left out; one that is written stays so. Blocks."""
        if item_id_problem(reject.id):
            return  # nothing can be known again by such an id
        location = "" if item is None else str(item.image_ref)
        entry = LedgerEntry(
            id=reject.id,
            content=stamp.content,
            payload="",
            location=location,
            size=stamp.size,
            mtime_ns=stamp.mtime_ns,
            state="rejected",
            change="",
            reason=reject.reason,
            message=reject.message,
        )
        self.ledger.put(self.version, [entry])


class ItemWriter(Protocol):
    """The place that embedded items are written to."""

    async def write(self, items: Sequence[EmbeddedItem]) -> None:
        """Write items; all are durable, and counted, when this returns.

        Raises:
            IndexingError: the store refuses.
        """


class BatchWriter:
    """Writes items at most `write_items` at a time; the tally counts what was acknowledged."""

    def __init__(
        self,
        writer: VersionWriter,
        page: LedgerPage,
        tally: Tally,
        *,
        write_items: int,
        retry_seconds: float,
    ) -> None:
        self._writer = writer
        self._page = page
        self._tally = tally
        self._write_items = write_items
        self._retry_seconds = retry_seconds

    async def write(self, items: Sequence[EmbeddedItem]) -> None:
        """Write items; all are durable when this returns.

        Raises:
            IndexingError: the store refuses.
        """
        for start in range(0, len(items), self._write_items):
            await self._upsert(items[start : start + self._write_items])

    async def _upsert(self, items: Sequence[EmbeddedItem]) -> None:
        batch = point_batch(items)
        await asyncio.to_thread(self._page.intend, items)
        try:
            await retrying(
                lambda: self._writer.upsert(batch), wait_asked=wait_asked, seconds=self._retry_seconds
            )
        except StoreError as error:
            raise IndexingError(f"the store did not take a batch of {len(items)} items: {error}") from error
        await asyncio.to_thread(self._page.acknowledge, items)
        self._tally.count(item.change for item in items)


def point_batch(items: Sequence[EmbeddedItem]) -> PointBatch:
    """The batch that a store takes, one row for each item."""
    return PointBatch(
        ids=[entry.item.id for entry in items],
        features=np.stack([entry.features for entry in items]),
        payloads=[entry.item.payload for entry in items],
        images=[entry.item.image for entry in items],
    )


def wait_asked(error: Exception) -> float | None:
    """Return the seconds to wait before the store is asked again; None if that makes no sense.

    Writing the same items again changes nothing, so a write whose answer was lost may be repeated.
    """
    return (
        0.0 if isinstance(error, StoreUnavailableError) and not isinstance(error, StoreLockedError) else None
    )


def _entry(item: EmbeddedItem, state: str) -> LedgerEntry:
    source, stamp = item.item, item.stamp
    return LedgerEntry(
        id=source.id,
        content=stamp.content,
        payload=payload_hash(source.payload, source.image),
        location=str(source.image_ref),
        size=stamp.size,
        mtime_ns=stamp.mtime_ns,
        state=state,
        change=str(item.change),
    )
