"""A lost ledger made again from the published version and the source."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from indexer.errors import LedgerError
from indexer.items import Change, LoadedItem, payload_hash
from indexer.ledger import Ledger, LedgerEntry
from indexer.read import read_image
from indexer.sources.base import ImageError, Source, SourceFacts, SourceItem
from indexer.validate import validate_items
from indexer.versions import PreviousVersion
from vector_store.copy import iterate_pages
from vector_store.types import Item

_PAGE = 256


def set_aside(path: Path) -> Path | None:
    """Rename a ledger's files, so that a new one can take their place; returns where they are now. Blocks."""
    moved = None
    for suffix in ("", "-wal", "-shm"):
        old = Path(f"{path}{suffix}")
        if old.exists():
            old.replace(new := Path(f"{path}.old{suffix}"))
            moved = moved or new
    return moved


async def rebuild(
    source: Source, facts: SourceFacts, previous: PreviousVersion, ledger: Ledger, max_bytes: int
) -> int:
    """Enter what the previous version holds into an empty ledger, and return how many items are known again.

    An item counts as unchanged when the version has it at the same image location, and its file was last
    changed before the version was begun; its image is read and hashed, not encoded. Items whose images have
    no time of change are encoded again.

    Raises:
        LedgerError: the version is open in another process.
    """
    if (reader := await previous.reader()) is None:
        raise LedgerError(
            f"the ledger is rebuilt from version {previous.info.version}, and {previous.unreadable}"
        )
    known = 0
    begun_ns = int(previous.info.created.timestamp() * 1e9)
    found = (item for item in validate_items(source.items(), facts.schema) if isinstance(item, SourceItem))
    while page := await asyncio.to_thread(lambda: list(islice(found, _PAGE))):
        stored = await reader.retrieve([item.id for item in page])
        pairs = [(item, stored[item.id]) for item in page if item.id in stored]
        entries = await asyncio.to_thread(_entries, pairs, begun_ns, max_bytes)
        await asyncio.to_thread(ledger.put, previous.key, entries)
        known += sum(1 for entry in entries if entry.content)
    async for items in iterate_pages(reader):
        rest = [i for i in items if await asyncio.to_thread(ledger.entry, previous.key, i.id) is None]
        await asyncio.to_thread(ledger.put, previous.key, [_unknown(item) for item in rest])
    return known


def _entries(pairs: Sequence[tuple[SourceItem, Item]], begun_ns: int, max_bytes: int) -> list[LedgerEntry]:
    entries = []
    for item, stored in pairs:
        try:
            seen = item.image_ref.stat()
        except ImageError:
            continue
        if not stored.online and stored.image == item.image and 0 <= seen.mtime_ns < begun_ns:
            loaded = read_image(item, max_bytes)
            if isinstance(loaded, LoadedItem):
                stamp = loaded.stamp
                entries.append(
                    _unknown(stored)._replace(
                        content=stamp.content,
                        location=str(item.image_ref),
                        size=stamp.size,
                        mtime_ns=stamp.mtime_ns,
                        change=str(Change.UNCHANGED),
                    )
                )
    return entries


def _unknown(item: Item) -> LedgerEntry:
    digest = payload_hash(item.payload, item.image)
    return LedgerEntry(
        id=item.id,
        content="",
        payload=digest,
        location="",
        size=-1,
        mtime_ns=-1,
        state="written",
        change=str(Change.CARRIED),
    )
