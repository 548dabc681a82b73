"""Where the bytes of a picture are: a file, a member of a tar shard, or an address on the web."""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from indexer.reasons import IMAGE_EMPTY, IMAGE_MISSING, IMAGE_NOT_READABLE, IMAGE_TOO_MANY_BYTES


class PictureError(Exception):
    """The bytes cannot be had. `reason` is a name of `indexer.reasons`, `read` how many bytes were read."""

    def __init__(self, reason: str, problem: str, read: int | None = None) -> None:
        super().__init__(problem)
        self.reason = reason
        self.read = read


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look without reading tells; (-1, -1) where nothing can be told."""

    size: int = -1
    mtime_ns: int = -1


class Picture(ABC):
    """A place that bytes come from. All methods block; several threads may read at once."""

    @staticmethod
    def of(location: Location) -> Picture:
        """The picture at a file path, or the picture itself."""
        return FilePicture(location) if isinstance(location, Path) else location

    @abstractmethod
    def look(self) -> Seen:
        """Size and time of change without reading. Raises `PictureError`."""

    @abstractmethod
    def read(self, max_bytes: int) -> bytes:
        """All bytes, never more than `max_bytes`. Raises `PictureError`."""


Location = Path | Picture


@dataclass(frozen=True, slots=True)
class FilePicture(Picture):
    """A file on disk."""

    path: Path

    def look(self) -> Seen:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            raise PictureError(IMAGE_MISSING, "does not exist") from None
        except (OSError, ValueError) as error:
            raise _not_readable(error) from error
        return Seen(status.st_size, status.st_mtime_ns)

    def read(self, max_bytes: int) -> bytes:
        try:
            with open(self.path, "rb", opener=_without_waiting) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise PictureError(IMAGE_NOT_READABLE, "is no regular file")
                if status.st_size > max_bytes:
                    raise too_large(status.st_size, max_bytes)
                # One byte more than allowed, so that a file that grew meanwhile is noticed.
                content = file.read(max_bytes + 1)
        except FileNotFoundError:
            raise PictureError(IMAGE_MISSING, "does not exist") from None
        except (OSError, ValueError) as error:
            raise _not_readable(error) from error
        return checked(content, max_bytes)

    def __str__(self) -> str:
        return str(self.path)


def checked(content: bytes, max_bytes: int) -> bytes:
    """The bytes again, unless there are none or too many. Raises `PictureError`."""
    if not content:
        raise PictureError(IMAGE_EMPTY, "has no bytes", 0)
    if len(content) > max_bytes:
        problem = f"has more than the {max_bytes} bytes that the embedder takes"
        raise PictureError(IMAGE_TOO_MANY_BYTES, problem, max_bytes)
    return content


def too_large(size: int, max_bytes: int) -> PictureError:
    """The refusal of a picture whose size is known before it is read."""
    return PictureError(
        IMAGE_TOO_MANY_BYTES,
        f"has {size} bytes, the embedder takes at most {max_bytes}; make it smaller",
    )


def _not_readable(error: Exception) -> PictureError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return PictureError(IMAGE_NOT_READABLE, f"cannot be read: {reason}")


def _without_waiting(path: str, flags: int) -> int:
    # Opening a named pipe would wait for its writer, maybe for ever.
    return os.open(path, flags | os.O_NONBLOCK)
