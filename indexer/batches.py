"""Batches for the embedder, bounded by count and by bytes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from indexer.items import LoadedItem, Reject


def batches(
    loaded: Iterable[LoadedItem | Reject], *, max_items: int, max_bytes: int
) -> Iterator[list[LoadedItem] | Reject]:
    """Group items in order; rejects pass through at once.

    A batch is never empty and stays within both bounds, save for a single item of more than `max_bytes`,
    which goes alone.
    """
    batch: list[LoadedItem] = []
    size = 0
    for item in loaded:
        if isinstance(item, Reject):
            yield item
            continue
        if batch and (len(batch) == max_items or size + len(item.content) > max_bytes):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(item.content)
    if batch:
        yield batch
