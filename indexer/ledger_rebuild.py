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
    source: Source, facts: SourceFacts, base: PreviousVersion, ledger: Ledger, max_bytes: int
) -> int:
    """Enter what the base holds into an empty ledger; returns how many items are known again.

    An item counts as unchanged when the base has it at the same image location, and its file was changed last
    before the base was begun; its picture is read and hashed, not encoded. Items whose pictures have no time
    of change are encoded again. Raises `LedgerError` when the base is open in another process.
    """
    if (reader := await base.reader()) is None:
        raise LedgerError(f"the ledger is rebuilt from version {base.info.version}, and {base.locked}")
    known = 0
    begun_ns = int(base.info.created.timestamp() * 1e9)
    found = (item for item in validate_items(source.items(), facts.schema) if isinstance(item, SourceItem))
    while page := await asyncio.to_thread(lambda: list(islice(found, _PAGE))):
        stored = await reader.retrieve([item.id for item in page])
        pairs = [(item, stored[item.id]) for item in page if item.id in stored]
        entries = await asyncio.to_thread(_entries, pairs, begun_ns, max_bytes)
        await asyncio.to_thread(ledger.put, base.key, entries)
        known += sum(1 for entry in entries if entry.content)
    async for items in iterate_pages(reader):
        rest = [i for i in items if await asyncio.to_thread(ledger.entry, base.key, i.id) is None]
        await asyncio.to_thread(ledger.put, base.key, [_unknown(item) for item in rest])
    return known


def _entries(pairs: Sequence[tuple[SourceItem, Item]], begun_ns: int, max_bytes: int) -> list[LedgerEntry]:
    entries = []
    for item, stored in pairs:
        try:
            seen = item.picture.look()
        except ImageError:
            continue
        if not stored.online and stored.image == item.image and 0 <= seen.mtime_ns < begun_ns:
            loaded = read_image(item, max_bytes)
            if isinstance(loaded, LoadedItem):
                stamp = loaded.stamp
                entries.append(
                    _unknown(stored)._replace(
                        content=stamp.content,
                        location=str(item.picture),
                        size=stamp.size,
                        mtime_ns=stamp.mtime_ns,
                        change=str(Change.UNCHANGED),
                    )
                )
    return entries


def _unknown(item: Item) -> LedgerEntry:
    digest = payload_hash(item.payload, item.image)
    return LedgerEntry(item.id, "", digest, "", -1, -1, "written", str(Change.CARRIED))
