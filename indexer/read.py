"""Reading the bytes of images, several at a time, and batches of them, bounded by count and by bytes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from indexer.items import ContentStamp, KnownItem, LoadedItem, content_hash
from indexer.rejects import Reject
from indexer.sources.base import FileStat, ImageError, SourceItem

T = TypeVar("T")

# A file that was written this short a time ago may be written again within the same tick of its clock.
_SETTLED_NS = 2_000_000_000


def read_image(item: SourceItem, max_bytes: int) -> LoadedItem | Reject:
    """The bytes of an item's image, or why they cannot be had. Never more than `max_bytes` are read."""
    image_ref = item.image_ref
    try:
        # Before the bytes: what changes in between is read again the next time.
        seen = image_ref.stat()
        content = image_ref.read(max_bytes)
    except ImageError as error:
        return reject_of(item, error)
    return LoadedItem(item, content, stamp_of(content_hash(content), seen))


def stamp_of(content: str, seen: FileStat) -> ContentStamp:
    """The stamp of an image that hashes to `content` and looked like `seen` before it was read."""
    settled = 0 <= seen.mtime_ns < time.time_ns() - _SETTLED_NS
    return ContentStamp(content, seen.size, seen.mtime_ns if settled else -1)


def read_images(
    found: Iterable[SourceItem | T], *, max_bytes: int, threads: int
) -> Iterator[LoadedItem | Reject | T]:
    """Read the images of items, in order; all else passes through. Twice `threads` are read ahead."""
    window: deque[Future[LoadedItem | Reject] | T] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read")
    try:
        for item in found:
            window.append(pool.submit(read_image, item, max_bytes) if isinstance(item, SourceItem) else item)
            if len(window) > 2 * threads:
                yield _done(window.popleft())
        while window:
            yield _done(window.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def reject_of(item: SourceItem, error: ImageError) -> Reject:
    """The reject for an image whose bytes cannot be had."""
    return Reject(item.id, item.image, error.reason, f"image {item.image_ref} {error}", error.read)


def _done(entry: Future[LoadedItem | Reject] | T) -> LoadedItem | Reject | T:
    return entry.result() if isinstance(entry, Future) else entry


Passed = TypeVar("Passed")

# Items whose features are taken over, read from the store at a time.
KNOWN_ITEMS = 256


def batches(
    loaded: Iterable[LoadedItem | KnownItem | Passed], *, max_items: int, max_bytes: int
) -> Iterator[list[LoadedItem] | list[KnownItem] | Passed]:
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
