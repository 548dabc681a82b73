"""Members of a tar shard, by their places in it; nothing is unpacked.

A shard may be several tar files one after the other, as `cat` and appending writers leave them; each is read
to its end. What ends too early, or goes on with something else, is never taken for the end.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from indexer.errors import SourceError
from indexer.rejects import IMAGE_MISSING, IMAGE_NOT_READABLE
from indexer.sources.base import FileStat, ImageError, ImageRef, check_content, too_large

# A header of extended fields is read as a whole; real ones have a few hundred bytes.
_MAX_HEADER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class TarImage(ImageRef):
    """A regular member of an uncompressed tar file, by its place in it."""

    shard: Path
    name: str
    offset: int
    size: int

    def stat(self) -> FileStat:
        try:
            return FileStat(self.size, self.shard.stat().st_mtime_ns)
        except FileNotFoundError:
            raise ImageError(IMAGE_MISSING, "does not exist: its shard is gone") from None
        except OSError as error:
            raise ImageError(IMAGE_NOT_READABLE, f"cannot be read: {error.strerror}") from error

    def read(self, max_bytes: int) -> bytes:
        if self.size > max_bytes:
            raise too_large(self.size, max_bytes)
        try:
            with self.shard.open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except FileNotFoundError:
            raise ImageError(IMAGE_MISSING, "does not exist: its shard is gone") from None
        except OSError as error:
            raise ImageError(IMAGE_NOT_READABLE, f"cannot be read: {error.strerror}") from error
        if len(content) < self.size:
            raise ImageError(IMAGE_NOT_READABLE, "is cut off: its shard became shorter", len(content))
        return check_content(content, max_bytes)

    @property
    def short(self) -> str:
        """The name of the shard and that of the member, for people."""
        return f"{self.shard.name}!/{self.name}"

    def __str__(self) -> str:
        return f"{self.shard}!/{self.name}"


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a shard; `problem` says why it cannot be used, '' when it can."""

    image_ref: TarImage
    problem: str = ""


def members(shard: Path, remark: Callable[[str], None] = lambda text: None) -> Iterator[Member]:
    """Yield the files of a shard in order; folders are passed over. Nothing but headers is read.

    `remark` is called for a shard that has no end mark, and so may have lost whole members.

    Raises:
        SourceError: a shard that is no tar file, is compressed, damaged or cut off.
    """
    try:
        with _Headers(io.FileIO(shard)) as file:
            start: int | None = 0
            while start is not None:
                file.seek(start)
                with tarfile.open(fileobj=file, mode="r:") as tar:
                    while (info := tar.next()) is not None:
                        # The module would remember every member; a shard may have a million.
                        tar.members.clear()  # type: ignore[attr-defined]
                        if not info.isdir():
                            image_ref = TarImage(shard, info.name, info.offset_data, info.size)
                            yield Member(image_ref, _problem(info))
                    end: int = tar.offset
                start = _next_archive(file, end, lambda: remark(f"shard {shard} {_NO_END_MARK}"))
    except (tarfile.TarError, OSError, ValueError) as error:
        kind = _compression(shard)
        advice = (
            f"it is compressed with {kind}: uncompress it" if kind else f"{error}; fetch or write it again"
        )
        raise SourceError(f"shard {shard} cannot be read as an uncompressed tar file: {advice}") from error


_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}


def _compression(shard: Path) -> str:
    """Return the compression of a file that is no tar file, by its first bytes; empty where none is known."""
    try:
        with shard.open("rb") as file:
            first = file.read(tarfile.BLOCKSIZE)
    except OSError:
        return ""
    is_header = first[257:262] == b"ustar"
    found = (kind for magic, kind in _COMPRESSED.items() if first.startswith(magic))
    return "" if is_header else next(found, "")


_NO_END_MARK = "has no end mark: if it was cut off, members are missing"


def _next_archive(file: _Headers, end: int, no_end_mark: Callable[[], None]) -> int | None:
    """Return where the next tar file begins after one whose members end at `end`; None for no further one.

    The module ends quietly wherever it finds no further header, so what it found there is looked at here.

    Raises:
        tarfile.ReadError: there is something else than zeros or the header of a member.
    """
    file.seek(end)
    block = file.read(tarfile.BLOCKSIZE)
    if not block:
        no_end_mark()
        return None
    if any(block):
        raise tarfile.ReadError(f"byte {end} begins no header of a member: the file is damaged or cut off")
    position = end + len(block)
    while chunk := file.read(_MAX_HEADER_BYTES):
        if rest := chunk.lstrip(b"\0"):
            position += len(chunk) - len(rest)
            return position - position % tarfile.BLOCKSIZE
        position += len(chunk)
    return None


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
