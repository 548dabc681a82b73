"""Reading the bytes of pictures, several at a time and never more than the window ahead."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from indexer.digests import content_hash
from indexer.items import LoadedItem, Reject, SourceItem, Stamp
from indexer.picture import PictureError, Seen

T = TypeVar("T")

# A file that was written this short a time ago may be written again within the same tick of its clock.
_SETTLED_NS = 2_000_000_000


def read_image(item: SourceItem, max_bytes: int) -> LoadedItem | Reject:
    """The bytes of an item's picture, or why they cannot be had. Never more than `max_bytes` are read."""
    picture = item.picture
    try:
        # Before the bytes: what changes in between is read again the next time.
        seen = picture.look()
        content = picture.read(max_bytes)
    except PictureError as error:
        return reject_of(item, error)
    return LoadedItem(item, content, stamp_of(content_hash(content), seen))


def stamp_of(content: str, seen: Seen) -> Stamp:
    """The stamp of a picture that hashes to `content` and looked like `seen` before it was read."""
    settled = 0 <= seen.mtime_ns < time.time_ns() - _SETTLED_NS
    return Stamp(content, seen.size, seen.mtime_ns if settled else -1)


def read_images(
    found: Iterable[SourceItem | T], *, max_bytes: int, threads: int
) -> Iterator[LoadedItem | Reject | T]:
    """Read the pictures of items, in order; all else passes through. Twice `threads` are read ahead."""
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


def reject_of(item: SourceItem, error: PictureError) -> Reject:
    """The reject for a picture whose bytes cannot be had."""
    return Reject(item.id, item.image, error.reason, f"image {item.picture} {error}", error.read)


def _done(entry: Future[LoadedItem | Reject] | T) -> LoadedItem | Reject | T:
    return entry.result() if isinstance(entry, Future) else entry
