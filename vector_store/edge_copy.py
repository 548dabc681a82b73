"""A second folder with the files of a shard that is at rest (see `edge_gate`). All of it blocks."""

from __future__ import annotations

import os
from pathlib import Path

# What the engine writes once, when it builds a segment, and only ever maps and removes afterwards: the
# vectors of an indexed segment, their compressed copies, and the graph. These are nearly all of a large
# version, and the copy shares them as hard links. Everything else the engine changes in place.
SHARED = frozenset({"matrix.dat", "quantized.data", "links.bin", "links_compressed.bin"})

_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)

# The engine's log makes its next file ahead of time, under a name that it changes.
_TRIES = 5


def copy_shard(source: Path, target: Path) -> None:
    """Copy the shard in `source` into a new folder `target`. Raises `OSError`."""
    for attempt in range(_TRIES):
        try:
            _copy_folder(source, target)
            return
        except FileNotFoundError:
            if attempt == _TRIES - 1 or not source.is_dir():
                raise


def used_bytes(folder: Path) -> int:
    """Bytes of disk below `folder`; sparse files count with their blocks."""
    return sum(512 * path.stat().st_blocks for path in folder.rglob("*") if path.is_file())


def sync_files(folder: Path) -> None:
    """Make everything below `folder` durable."""
    for parent, _, names in os.walk(folder):
        for path in [*(os.path.join(parent, name) for name in names), parent]:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _copy_folder(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        there = target / entry.name
        if entry.is_dir(follow_symlinks=False):
            _copy_folder(Path(entry.path), there)
        elif entry.name not in SHARED or not _link(entry.path, there):
            _copy_file(entry.path, there)


def _link(source: str, target: Path) -> bool:
    """Whether a hard link could be made; not every file system has them."""
    try:
        os.link(source, target)
    except FileExistsError:
        return True
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True


def _copy_file(source: str, target: Path) -> None:
    """Blocks of zeros become holes: the engine's files are large and mostly empty."""
    with open(source, "rb", buffering=0) as reading, open(target, "wb", buffering=0) as writing:
        while chunk := reading.read(_CHUNK):
            if chunk == _ZEROS[: len(chunk)]:
                writing.seek(len(chunk), os.SEEK_CUR)
            else:
                view = memoryview(chunk)
                while view:
                    view = view[writing.write(view) :]
        writing.truncate()
