"""Checksums of an embedded version's files, in blocks, by which damage is found before it answers.

The engine opens most damaged shards without an error and then answers with other vectors or other facets, or
loses what is written online (a log that was cut short makes it take new changes for old ones). So every file
of a finished version is noted with its size and a CRC-32 of each block of 1 MiB.

Sizes and the files of one block are compared at every opening. The blocks of larger files follow from a
random one on, so that openings which have no time for all of them cover different parts.

What the engine builds once and only maps afterwards (`SHARED`) keeps its sums for the version's whole life.
Everything else changes with the first online write, and is noted anew when the version is closed.

Everything here blocks."""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from service_runtime.files import check_seal, read_json, seal, write_json

BLOCK = 1 << 20

SHARED = frozenset({"matrix.dat", "quantized.data", "links.bin", "links_compressed.bin"})
"""Names of what the engine writes once, when it builds a segment, and only ever maps and removes afterwards.

These are the vectors of an indexed segment, their compressed copies, and the graph: nearly all of a large
version."""

# The engine may write the members of its configuration in another order.
_CONFIG = "edge_config.json"
_FORMAT = 1
_ZEROS = {BLOCK: zlib.crc32(bytes(BLOCK))}


class Coverage(StrEnum):
    """Files whose sums count, as a version's document says."""

    ALL = "all"
    """Every file: nothing was written since the sums were made."""

    UNCHANGING = "unchanging"
    """Those of `SHARED`: the version was changed and not closed since."""

    OLDER = ""
    """The version has no block sums: it was made before there were any."""


class FileDamageError(Exception):
    """A file that is not what was noted: `name`, relative to its folder, and `problem` ("is missing")."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name} {problem}")
        self.name = name
        self.problem = problem


@dataclass(frozen=True, slots=True)
class FileSums:
    """Size of a file and the CRC-32 of each of its blocks, of which the last may be shorter."""

    size: int
    blocks: tuple[int, ...]


Sums = Mapping[str, FileSums]


def make_sums(shard: Path, known: Sums | None = None, *, only_shared: bool = False) -> dict[str, FileSums]:
    """Return the sums of a closed shard's files, or of those of `SHARED` alone, which may be open.

    Files of `SHARED` that `known` has are not read again: they have not changed, and what has damaged them
    since must not become their sum.
    """
    sums = {}
    for path in sorted(shard.rglob("*")):
        name = str(path.relative_to(shard))
        if path.is_file() and (is_shared(name) or not only_shared):
            kept = (known or {}).get(name) if is_shared(name) else None
            sums[name] = kept or _sums_of(path, name)
    return sums


def write_sums(path: Path, sums: Sums) -> None:
    """Write sums, durably and whole or not at all."""
    files = {name: [file.size, _to_text(file.blocks)] for name, file in sums.items()}
    write_json(path, seal({"format": _FORMAT, "block_bytes": BLOCK, "files": files}))


def read_sums(path: Path) -> dict[str, FileSums]:
    """Read what `write_sums` wrote.

    Raises:
        FileDamageError: the file is missing, or not what was written.
    """
    try:
        document = read_json(path)
        if document is None:
            raise FileDamageError(path.name, "is missing")
        document = check_seal(document, unsealed=())
        if (document["format"], document["block_bytes"]) != (_FORMAT, BLOCK):
            raise ValueError(f"its format is {document['format']}")
        return {name: FileSums(size, _from_text(text)) for name, (size, text) in document["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileDamageError(path.name, f"was altered ({error})") from None


def read_older_sums(path: Path) -> dict[str, FileSums]:
    """Read the sums of versions from before there were blocks; none where there is no file.

    They have the size of each file but the log and the configuration, and the checksum of small ones: what
    has no blocks is compared by size alone.

    Raises:
        FileDamageError: the file is not such a one.
    """
    try:
        files = (read_json(path) or {"files": {}})["files"]
        return {str(name): FileSums(int(noted[0]), tuple(noted[1:])) for name, noted in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise FileDamageError(path.name, "cannot be read") from None


def is_shared(name: str) -> bool:
    """Return whether a file never changes while its shard exists."""
    return name.rpartition("/")[2] in SHARED


def check_files(shard: Path, sums: Sums, *, start: float = 0.0) -> Iterator[int]:
    """Compare files with their sums; yield the bytes of each piece that was compared and found well.

    The first piece has all sizes and all files of one block; the others are the blocks of larger files, from
    the share `start` (0 to 1) of all of them on, round to where they began.

    Raises:
        FileDamageError: a file is missing, cannot be read, or is not what was noted.
    """
    small = 0
    for name, file in sums.items():
        _check_size(shard, name, file)
    for name, file in sums.items():
        if len(file.blocks) <= 1:
            small += sum(check_file(shard, name, file))
    yield small
    several = {name: len(file.blocks) for name, file in sums.items() if len(file.blocks) > 1}
    large = [(name, block) for name, count in several.items() for block in range(count)]
    first = min(int(start * len(large)), max(0, len(large) - 1))
    at = 0
    order = large[first:] + large[:first]
    while at < len(order):
        name, block = order[at]
        count = 1
        while at + count < len(order) and order[at + count] == (name, block + count):
            count += 1
        yield from check_file(shard, name, sums[name], first=block, count=count)
        at += count


def check_file(
    shard: Path, name: str, file: FileSums, *, first: int = 0, count: int | None = None
) -> Iterator[int]:
    """Compare `count` blocks of one file from `first` on (all by default); yield the bytes of each.

    Raises:
        FileDamageError: as `check_files`.
    """
    path = shard / name
    _check_size(shard, name, file)
    last = len(file.blocks) if count is None else first + count
    try:
        if name == _CONFIG:
            blocks: Iterator[tuple[int, int]] = iter([_config_block(path)])
        else:
            blocks = _blocks(path, file.size, first, last)
        for number, (length, found) in enumerate(blocks, first):
            if found != file.blocks[number]:
                begin = number * BLOCK
                where = f" (in bytes {begin} to {begin + length})" if len(file.blocks) > 1 else ""
                raise FileDamageError(name, f"was altered{where}")
            yield length
    except OSError as error:
        raise FileDamageError(name, f"cannot be read: {error.strerror or error}") from error


def _check_size(shard: Path, name: str, file: FileSums) -> None:
    path = shard / name
    try:
        if not path.is_file():
            raise FileDamageError(name, "is missing")
        size = path.stat().st_size
    except OSError as error:
        raise FileDamageError(name, f"cannot be read: {error.strerror or error}") from error
    if size != file.size:
        raise FileDamageError(name, f"has {size} bytes, not {file.size}")


def _sums_of(path: Path, name: str) -> FileSums:
    size = path.stat().st_size
    if name == _CONFIG:
        return FileSums(size, (_config_block(path)[1],))
    return FileSums(size, tuple(crc for _, crc in _blocks(path, size, 0, -(-size // BLOCK))))


def _config_block(path: Path) -> tuple[int, int]:
    """Length, and the CRC-32 of a configuration with its members in order."""
    content = path.read_bytes()
    try:
        ordered = json.dumps(json.loads(content), sort_keys=True).encode()
    except ValueError:
        ordered = content
    return len(content), zlib.crc32(ordered)


def _blocks(path: Path, size: int, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Length and CRC-32 of the blocks `first` to `last` - 1; holes of sparse files are not read."""
    buffer = memoryview(bytearray(min(BLOCK, size)))
    with path.open("rb", buffering=0) as file:
        data = -1
        for block in range(first, last):
            begin = block * BLOCK
            length = min(BLOCK, size - begin)
            if data < begin:
                data = _next_data(file.fileno(), begin, size)
            if data >= begin + length:
                yield length, _zeros(length)
                continue
            data = -1
            done = 0
            file.seek(begin)
            while done < length and (read := file.readinto(buffer[done:length])):
                done += read
            yield length, zlib.crc32(buffer[:done])


def _next_data(descriptor: int, begin: int, size: int) -> int:
    """The first byte from `begin` on that is not in a hole."""
    if not hasattr(os, "SEEK_DATA"):
        return begin  # Windows does not say
    try:
        return os.lseek(descriptor, begin, os.SEEK_DATA)
    except OSError as error:
        # No more data; a file system without holes says something else.
        return size if error.errno == errno.ENXIO else begin


def _zeros(length: int) -> int:
    if length not in _ZEROS:
        return zlib.crc32(bytes(length))
    return _ZEROS[length]


def _to_text(blocks: tuple[int, ...]) -> str:
    return "".join(f"{block:08x}" for block in blocks)


def _from_text(text: str) -> tuple[int, ...]:
    return tuple(int(text[at : at + 8], 16) for at in range(0, len(text), 8))
