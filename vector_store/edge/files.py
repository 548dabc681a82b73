"""The folders and files of an embedded store: where they lie, room on the disk, and copies.

```
<root>/store.lock                                  one at a time creates, publishes or drops
<root>/catalogs/<catalog>/CURRENT                  the published version and the earlier ones (JSON)
<root>/catalogs/<catalog>/given-out-<version>      the newest version there ever was: no id is given out
                                                   twice, so this outlasts the catalog
<root>/catalogs/<catalog>/versions/<version>/
    version.json                                   specification, state, number of points
    lock                                           held by the process that has the shard open
    write.lock                                     held while the engine's files are changed or copied
    dropped                                        marks a version to be removed once nobody holds it
    sums-shard.json                                sizes and checksums of the files of `shard` (see `sums`)
    damaged.json                                   marks a version in which damage was found, and says where
    changed                                        marks a version that was changed after it was finished
    notes.json                                     texts of the writers of a version that is being built
    shard/                                         the engine's files
    shard-<hex>/                                   the same, indexed anew after many online writes: the
                                                   document says which folder counts, others are left-overs
<root>/copies/<hex>/                               a version as read by a process that does not own it
<root>/copies/<hex>.lock                           held by that process
```

A shard is copied while it is at rest (see `locks`).

Everything here blocks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from service_runtime.files import sync_directory, sync_file
from vector_store.edge.sums import SHARED
from vector_store.errors import StoreUnavailableError

FIRST_SHARD = "shard"
"""Name of the folder that a version is built in."""


class EdgeLayout:
    """Paths below the root of an embedded store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.catalogs = root / "catalogs"
        self.store_lock = root / "store.lock"
        self.copies = root / "copies"

    def shown(self, path: Path) -> str:
        """Return a path as messages have it, which travel to clients: below the root, not where that lies."""
        return path.relative_to(self.root).as_posix()

    def catalog(self, catalog: str) -> Path:
        return self.catalogs / catalog

    def current(self, catalog: str) -> Path:
        return self.catalog(catalog) / "CURRENT"

    def given_out(self, catalog: str, version: str) -> Path:
        return self.catalog(catalog) / f"given-out-{version}"

    def versions(self, catalog: str) -> Path:
        return self.catalog(catalog) / "versions"

    def version(self, catalog: str, version: str) -> Path:
        return self.versions(catalog) / version

    def document(self, catalog: str, version: str) -> Path:
        return self.version(catalog, version) / "version.json"

    def lock(self, catalog: str, version: str) -> Path:
        return self.version(catalog, version) / "lock"

    def dropped(self, catalog: str, version: str) -> Path:
        return self.version(catalog, version) / "dropped"

    def write_lock(self, catalog: str, version: str) -> Path:
        return self.version(catalog, version) / "write.lock"

    def shard(self, catalog: str, version: str, name: str = FIRST_SHARD) -> Path:
        return self.version(catalog, version) / name

    def changed(self, catalog: str, version: str) -> Path:
        return self.version(catalog, version) / "changed"

    def sums(self, catalog: str, version: str, name: str = FIRST_SHARD) -> Path:
        return self.version(catalog, version) / f"sums-{name}.json"

    def notes(self, catalog: str, version: str) -> Path:
        return self.version(catalog, version) / "notes.json"

    def older_sums(self, catalog: str, version: str) -> Path:
        """Sizes, and checksums of small files alone, as versions had them at first."""
        return self.version(catalog, version) / "sums.json"

    def damage(self, catalog: str, version: str) -> Path:
        return self.version(catalog, version) / "damaged.json"


def check_disk_space(folder: Path, min_free_bytes: int, act: str) -> None:
    """Raise `StoreUnavailableError` when the disk of `folder` has less than `min_free_bytes` left. Blocks."""
    free = shutil.disk_usage(folder).free
    if free < min_free_bytes:
        raise StoreUnavailableError(
            f"cannot {act}: the disk of {folder} is full ({free >> 20} MiB left, {min_free_bytes >> 20} MiB "
            "must stay free); delete old versions or make room, and try again"
        )


_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)

# The engine's log makes its next file ahead of time, under a name that it changes.
_TRIES = 5


def copy_shard(source: Path, target: Path) -> None:
    """Copy the shard in `source` into a new folder `target`.

    Files of `SHARED`, nearly all of a large version, are shared as hard links.

    Raises:
        OSError: it cannot be read, or not written.
    """
    for attempt in range(_TRIES):
        try:
            _copy_folder(source, target)
            return
        except FileNotFoundError:
            if attempt == _TRIES - 1 or not source.is_dir():
                raise


def used_bytes(folder: Path) -> int:
    """Return the bytes of disk below `folder`; sparse files count with their blocks."""
    return sum(_used(path.stat()) for path in folder.rglob("*") if path.is_file())


def _used(status: os.stat_result) -> int:
    # Windows does not count blocks.
    return 512 * status.st_blocks if hasattr(status, "st_blocks") else status.st_size


def sync_files(folder: Path) -> None:
    """Make everything below `folder` durable."""
    for parent, _, names in os.walk(folder):
        for name in names:
            sync_file(Path(parent, name))
        sync_directory(Path(parent))


def _copy_folder(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        there = target / entry.name
        if entry.is_dir(follow_symlinks=False):
            _copy_folder(Path(entry.path), there)
        elif entry.name not in SHARED or not _link(entry.path, there):
            _copy_file(entry.path, there)


def _link(source: str, target: Path) -> bool:
    """Return whether a hard link could be made; not every file system has them."""
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
    """Copy a file; blocks of zeros become holes, because the engine's files are large and mostly empty."""
    with open(source, "rb", buffering=0) as reading, open(target, "wb", buffering=0) as writing:
        while chunk := reading.read(_CHUNK):
            if chunk == _ZEROS[: len(chunk)]:
                writing.seek(len(chunk), os.SEEK_CUR)
            else:
                view = memoryview(chunk)
                while view:
                    view = view[writing.write(view) :]
        writing.truncate()
