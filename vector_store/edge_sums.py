"""Checksums of a version's files, so that damage is found when it is opened and not by wrong answers.

The engine opens most damaged shards without a word: a mapping cut in half loses items, a vector file cut
short loses vectors. So a finished version has a file with the size of each of its files and a CRC-32 of the
small ones (configuration, states, mappings of small versions); the sizes of the others are compared alone,
because reading all vectors would make opening slow. An online change removes the sums before it writes and
closing the version makes new ones: after a crash in between there are none, and nothing is compared.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

from vector_store.edge_layout import read_json, replace_json, sync_folder
from vector_store.errors import StoreDamaged

# Larger files are compared by size alone.
_SMALL = 1 << 20

# The engine rewrites its own configuration when it opens a shard, and its log between flushes.
_CONFIG = "edge_config.json"
_LOG = "wal"


def write_sums(shard: Path, sums: Path) -> None:
    """Note the files of a closed shard. Blocks."""
    replace_json(sums, {"files": {name: _sum(shard / name) for name in _names(shard)}})


def remove_sums(sums: Path) -> None:
    """The shard is about to change. Blocks."""
    if sums.exists():
        sums.unlink()
        sync_folder(sums.parent)


def check_sums(shard: Path, sums: Path, name: str) -> None:
    """Raise `StoreDamaged` where a closed shard's files are not those that were noted. Blocks."""
    try:
        document = read_json(sums)
        noted = None if document is None else dict(document["files"])
    except (ValueError, KeyError, TypeError):
        raise damaged(name, f"{sums} cannot be read") from None
    if noted is None:
        return
    for file, expected in noted.items():
        path = shard / file
        if not path.is_file():
            raise damaged(name, f"{path} is missing")
        found = _sum(path)
        if found[0] != expected[0]:
            raise damaged(name, f"{path} has {found[0]} bytes, not {expected[0]}")
        if found != expected:
            raise damaged(name, f"{path} was altered")
    try:
        json.loads((shard / _CONFIG).read_bytes())
    except (OSError, ValueError):
        raise damaged(name, f"{shard / _CONFIG} is missing or cannot be read") from None


def damaged(name: str, what: str) -> StoreDamaged:
    """The error, with what to do."""
    return StoreDamaged(
        f"{name} is damaged: {what}; roll back to an earlier version (cir catalogs rollback), restore a "
        "snapshot (cir catalogs restore), or index the catalog again"
    )


def _names(shard: Path) -> list[str]:
    names = (path.relative_to(shard) for path in sorted(shard.rglob("*")) if path.is_file())
    return [str(name) for name in names if name.parts[0] != _LOG and str(name) != _CONFIG]


def _sum(path: Path) -> list[int]:
    size = path.stat().st_size
    return [size] if size > _SMALL else [size, zlib.crc32(path.read_bytes())]
