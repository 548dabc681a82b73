"""Members of tar shards: where each one's bytes are, without unpacking anything."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from indexer.errors import SourceError
from indexer.picture import Picture, PictureError, Seen, checked, too_large
from indexer.reasons import IMAGE_MISSING, IMAGE_NOT_READABLE

# A header of extended fields is read as a whole; real ones have a few hundred bytes.
_MAX_HEADER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class TarPicture(Picture):
    """A regular member of an uncompressed tar file, by its place in it."""

    shard: Path
    name: str
    offset: int
    size: int

    def look(self) -> Seen:
        try:
            return Seen(self.size, self.shard.stat().st_mtime_ns)
        except FileNotFoundError:
            raise PictureError(IMAGE_MISSING, "does not exist: its shard is gone") from None
        except OSError as error:
            raise PictureError(IMAGE_NOT_READABLE, f"cannot be read: {error.strerror}") from error

    def read(self, max_bytes: int) -> bytes:
        if self.size > max_bytes:
            raise too_large(self.size, max_bytes)
        try:
            with self.shard.open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except FileNotFoundError:
            raise PictureError(IMAGE_MISSING, "does not exist: its shard is gone") from None
        except OSError as error:
            raise PictureError(IMAGE_NOT_READABLE, f"cannot be read: {error.strerror}") from error
        if len(content) < self.size:
            raise PictureError(IMAGE_NOT_READABLE, "is cut off: its shard became shorter", len(content))
        return checked(content, max_bytes)

    def __str__(self) -> str:
        return f"{self.shard}!/{self.name}"


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a shard; `problem` says why it cannot be used, '' when it can."""

    picture: TarPicture
    problem: str = ""


def members(shard: Path) -> Iterator[Member]:
    """The files of a shard in order; folders are passed over. Nothing but headers is read.

    Raises `SourceError` for a shard that is no tar file, is compressed, damaged or cut off.
    """
    try:
        with _Headers(io.FileIO(shard)) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            while (info := tar.next()) is not None:
                # The module would remember every member; a shard may have a million.
                tar.members.clear()  # type: ignore[attr-defined]
                if not info.isdir():
                    yield Member(TarPicture(shard, info.name, info.offset_data, info.size), _problem(info))
    except (tarfile.TarError, OSError, ValueError) as error:
        raise SourceError(
            f"shard {shard} cannot be read as an uncompressed tar file: {error}; fetch or write it again"
        ) from error


def _problem(info: tarfile.TarInfo) -> str:
    path = PurePosixPath(info.name)
    if path.is_absolute() or ".." in path.parts or "\0" in info.name:
        return "its name leads out of the shard; expected a relative path without '..'"
    if not info.isreg() or info.issparse():
        return "it is no regular file (a link, a device, or sparse); put the file itself into the shard"
    return ""


class _Headers(io.BufferedReader):
    """A file of which only so much may be read at once as headers have."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header has {size} bytes; expected at most {_MAX_HEADER_BYTES}")
        return super().read(size)
