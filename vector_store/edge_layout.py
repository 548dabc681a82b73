"""The folders and files of an embedded store, and how small files are replaced safely.

```
<root>/store.lock                                  one at a time creates, publishes or drops
<root>/catalogs/<catalog>/CURRENT                  the published version and the earlier ones (JSON)
<root>/catalogs/<catalog>/versions/<version>/
    version.json                                   specification, state, number of points
    lock                                           held by the process that has the shard open
    write.lock                                     held while the engine's files are changed or copied
    dropped                                        marks a version to be removed once nobody holds it
    sums.json                                      sizes and checksums of the engine's files
    changed                                        marks a version that was changed after it was finished
    shard/                                         the engine's files
    shard-<hex>/                                   the same, indexed anew after many online writes: the
                                                   document says which folder counts, others are left-overs
<root>/copies/<hex>/                               files of a version as read by who does not own it
<root>/copies/<hex>.lock                           held by that process
```
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FIRST_SHARD = "shard"
"""Name of the folder that a version is built in."""


class EdgeLayout:
    """Paths below the root of an embedded store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.catalogs = root / "catalogs"
        self.store_lock = root / "store.lock"
        self.copies = root / "copies"

    def catalog(self, catalog: str) -> Path:
        return self.catalogs / catalog

    def current(self, catalog: str) -> Path:
        return self.catalog(catalog) / "CURRENT"

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

    def gate(self, catalog: str, version: str) -> Path:
        return self.version(catalog, version) / "write.lock"

    def shard(self, catalog: str, version: str, name: str = FIRST_SHARD) -> Path:
        return self.version(catalog, version) / name

    def changed(self, catalog: str, version: str) -> Path:
        return self.version(catalog, version) / "changed"

    def sums(self, catalog: str, version: str) -> Path:
        return self.version(catalog, version) / "sums.json"


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file, None when there is no file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError(f"{path} holds no JSON object")
    return document


def replace_json(path: Path, document: Mapping[str, Any]) -> None:
    """Replace a file as a whole: readers see the old or the new document, and the new one is durable."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(document, file, ensure_ascii=False, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make created, renamed and removed entries of a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
