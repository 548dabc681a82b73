"""Reading the bytes of pictures, several at a time and never more than the window ahead."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from indexer.items import LoadedItem, Reject, SourceItem
from indexer.reasons import IMAGE_EMPTY, IMAGE_MISSING, IMAGE_NOT_READABLE, IMAGE_TOO_MANY_BYTES


def read_image(item: SourceItem, max_bytes: int) -> LoadedItem | Reject:
    """The bytes of an item's picture, or why they cannot be had. Never more than `max_bytes` are read."""
    try:
        with open(item.path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return _reject(item, IMAGE_NOT_READABLE, "is no regular file")
            if status.st_size > max_bytes:
                return _reject(
                    item,
                    IMAGE_TOO_MANY_BYTES,
                    f"has {status.st_size} bytes, the embedder takes at most {max_bytes}; make it smaller",
                )
            # One byte more than allowed, so that a file that grew meanwhile is noticed.
            content = file.read(max_bytes + 1)
    except FileNotFoundError:
        return _reject(item, IMAGE_MISSING, "does not exist")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return _reject(item, IMAGE_NOT_READABLE, f"cannot be read: {reason}")
    if not content:
        return _reject(item, IMAGE_EMPTY, "has no bytes", 0)
    if len(content) > max_bytes:
        return _reject(
            item,
            IMAGE_TOO_MANY_BYTES,
            f"has more than the {max_bytes} bytes that the embedder takes",
            max_bytes,
        )
    return LoadedItem(item, content)


def read_images(
    found: Iterable[SourceItem | Reject], *, max_bytes: int, threads: int
) -> Iterator[LoadedItem | Reject]:
    """Read the pictures of items, in order; rejects pass through. At most twice `threads` are read ahead."""
    window: deque[Future[LoadedItem | Reject] | Reject] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read")
    try:
        for item in found:
            window.append(item if isinstance(item, Reject) else pool.submit(read_image, item, max_bytes))
            if len(window) > 2 * threads:
                yield _done(window.popleft())
        while window:
            yield _done(window.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _done(entry: Future[LoadedItem | Reject] | Reject) -> LoadedItem | Reject:
    return entry if isinstance(entry, Reject) else entry.result()


def _without_waiting(path: str, flags: int) -> int:
    # Opening a named pipe would wait for its writer, maybe for ever.
    return os.open(path, flags | os.O_NONBLOCK)


def _reject(item: SourceItem, reason: str, problem: str, read: int | None = None) -> Reject:
    return Reject(item.id, item.image, reason, f"image {item.path} {problem}", read)
