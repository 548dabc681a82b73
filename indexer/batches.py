"""Batches for the embedder, bounded by count and by bytes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from indexer.items import KnownItem, LoadedItem

T = TypeVar("T")

# Items whose features are taken over, read from the store at a time.
KNOWN_ITEMS = 256


def batches(
    loaded: Iterable[LoadedItem | KnownItem | T], *, max_items: int, max_bytes: int
) -> Iterator[list[LoadedItem] | list[KnownItem] | T]:
    """Group items in order, those to embed and known ones apart; all else passes through at once.

    A batch is never empty. One to embed stays within both bounds, save for a single item of more than
    `max_bytes`, which goes alone.
    """
    batch: list[LoadedItem] = []
    known: list[KnownItem] = []
    size = 0
    for item in loaded:
        if isinstance(item, KnownItem):
            known.append(item)
            if len(known) == KNOWN_ITEMS:
                yield known
                known = []
        elif isinstance(item, LoadedItem):
            if batch and (len(batch) == max_items or size + len(item.content) > max_bytes):
                yield batch
                batch, size = [], 0
            batch.append(item)
            size += len(item.content)
        else:
            yield item
    if batch:
        yield batch
    if known:
        yield known
