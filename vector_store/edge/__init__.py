"""The embedded engine, Qdrant Edge: shards in this process, below one folder. Its options need no engine."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from vector_store.base import Engine, EngineOptions, StoreAccess, StoreUrlError, VectorStore

MIN_FREE_BYTES = 256 << 20
"""Space that an embedded store leaves free. The engine writes into mapped, sparse files: where no block is
left for one of them the operating system ends the process (SIGBUS), so a full disk must not be reached."""


def _ignore_damage(_catalog: str, _damaged: bool) -> None:
    pass


@dataclass(frozen=True, slots=True)
class EdgeOptions(EngineOptions):
    """Options of an embedded store. `min_free_bytes` is the disk space that writes leave free.

    When queries of an open version compare more than `index_above_items` items one by one because they were
    written online, these are indexed in the background; 0 never does that. A failed attempt is repeated
    after `retry_s` seconds, doubled with each failure up to `max_retry_s`.

    The blocks of a version's large files are compared with their checksums for `verify_open_s` seconds when
    it is opened, and the rest while it is open, `verify_bytes_per_s` at most; 0 leaves that out. `on_damage`
    is called from any thread with a catalog, and with whether a version of it was refused for damage or
    opened well.
    """

    min_free_bytes: int = MIN_FREE_BYTES
    index_above_items: int = 10_000
    retry_s: float = 60.0
    max_retry_s: float = 3_600.0
    verify_open_s: float = 1.0
    verify_bytes_per_s: int = 64 << 20
    on_damage: Callable[[str, bool], None] = field(default=_ignore_damage, compare=False)


# On Windows the drive stands where other systems have the root.
_ROOT = "" if os.name == "nt" else "/"


class EdgeEngine(Engine):
    """The engine of `edge:///absolute/path`: a store below that folder, in this process."""

    def open(
        self, url: str, *, access: StoreAccess, options: Sequence[EngineOptions], quantize_above_bytes: int
    ) -> VectorStore:
        from vector_store.edge.store import EdgeStore

        own = next((given for given in options if isinstance(given, EdgeOptions)), EdgeOptions())
        return EdgeStore(self.folder(url), options=own, quantize_above_bytes=quantize_above_bytes)

    def folder(self, url: str) -> Path:
        return _read_folder(url)


def folder_url(folder: Path) -> str:
    """Return the URL of an embedded store below a folder: absolute, and quoted where its path needs it."""
    path = os.fsencode(folder.absolute().as_posix())
    return f"edge:///{quote(path.lstrip(b'/'))}"


def _read_folder(url: str) -> Path:
    """Return the folder that a URL names: the one that `folder_url` was given, whatever characters it has."""
    # Not by urlsplit, which drops line breaks without a word.
    path = url.partition(":")[2]
    if not path.startswith("/") or (path.startswith("//") and not path.startswith("///")):
        raise StoreUrlError("the path must be absolute, with three slashes")
    if "?" in path or "#" in path:
        raise StoreUrlError("it takes no query and no fragment; write ? as %3F and # as %23 in the path")
    if re.search("%(?![0-9A-Fa-f]{2})", path):
        raise StoreUrlError("a percent sign in the path is written as %25")
    if re.search(r"[\x00-\x1f\x7f]", path):
        raise StoreUrlError("a control character in the path is written as %XX")
    try:
        raw = unquote_to_bytes(os.fsencode(path))
    except UnicodeEncodeError:
        raise StoreUrlError("the path holds a lone surrogate, which no folder's name can") from None
    if b"\0" in raw:
        raise StoreUrlError("the path holds %00, which no folder's name can")
    folder = Path(_ROOT + os.fsdecode(raw).lstrip("/"))
    if not folder.is_absolute():
        raise StoreUrlError("the path must be absolute, such as edge:///C:/data/store")
    return folder
