"""Which items need no encoding: compared with the version built upon, and with what is written already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from indexer.changes import Change
from indexer.digests import payload_hash
from indexer.items import KnownItem, LoadedItem, Reject, SourceItem, Stamp, WrittenItem
from indexer.ledger import Entry, Ledger
from indexer.parts import Parts
from indexer.picture import PictureError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Recogniser:
    """Compares items with rows of the ledger. Blocks; used by one thread at a time.

    `base` is the ledger's key of the version built upon, None without one or when its vectors are of another
    model; `building` that of the version being built, None before it exists. With `checksum`, size and time
    of change are not trusted and every picture is read. `parts` are pictures embedded before by partitions.
    """

    ledger: Ledger
    base: int | None
    building: int | None = None
    checksum: bool = False
    parts: Parts | None = None

    def before_reading(
        self, found: Iterable[SourceItem | Reject]
    ) -> Iterator[SourceItem | KnownItem | WrittenItem | Reject]:
        """Settle items whose picture looks as it did, by size and time of change, without reading it."""
        for item in found:
            if isinstance(item, Reject):
                yield item
                continue
            old = self.row(self.building, item.id) or self.row(self.base, item.id)
            stamp = self.looks_like(item, old) if old is not None else None
            settled = self._settled(item, stamp) if stamp is not None else None
            yield settled or self._prepared(item) or item

    def after_reading(
        self, found: Iterable[LoadedItem | T]
    ) -> Iterator[LoadedItem | KnownItem | WrittenItem | T]:
        """Settle items by the hash of their bytes."""
        for item in found:
            if isinstance(item, LoadedItem):
                loaded = LoadedItem(item.item, item.content, item.stamp, self._encoded_as(item.item))
                yield self._settled(item.item, item.stamp) or loaded
            else:
                yield item

    def looks_like(self, item: SourceItem, old: Entry) -> Stamp | None:
        """The stamp of an item whose picture has not changed by its look; None when it must be read."""
        if self.checksum or old.mtime_ns < 0 or old.location != str(item.picture):
            return None
        try:
            seen = item.picture.look()
        except PictureError:
            return None  # reading it says what is wrong
        return old.stamp if (seen.size, seen.mtime_ns) == (old.size, old.mtime_ns) else None

    def change(self, item: SourceItem, content: str) -> tuple[Change, str] | None:
        """How an item with these bytes differs from the base, and whose features it has; None: none there."""
        if self.base is None:
            return None
        old = self.row(self.base, item.id)
        if old is not None and old.state == "written" and old.content == content:
            same = old.payload == payload_hash(item.payload, item.image)
            return (Change.UNCHANGED if same else Change.PAYLOAD), item.id
        twin = self.ledger.with_content(self.base, content)
        return None if twin is None else (Change.RENAMED, twin)

    def row(self, version: int | None, item_id: str) -> Entry | None:
        """An item's row in a version."""
        return None if version is None else self.ledger.entry(version, item_id)

    def _encoded_as(self, item: SourceItem) -> Change:
        old = self.row(self.base, item.id)
        return Change.NEW if old is None or old.state != "written" else Change.CHANGED

    def _prepared(self, item: SourceItem) -> KnownItem | WrittenItem | Reject | None:
        """What a partition made of an item's picture, if that has not changed since by its look."""
        row = None if self.parts is None else self.parts.seen_before(item, checksum=self.checksum)
        if row is None:
            return None
        if row.state == "rejected":
            size = row.size if row.size >= 0 else None
            return Reject(item.id, item.image, row.reason, row.message, size)
        settled = self._settled(item, row.stamp)
        return settled or KnownItem(item, row.stamp, self._encoded_as(item))

    def _settled(self, item: SourceItem, stamp: Stamp) -> KnownItem | WrittenItem | None:
        if not stamp.content:
            return None
        here = self.row(self.building, item.id)
        if (
            here is not None
            and here.state == "written"
            and here.change != Change.CARRIED
            and here.content == stamp.content
            and here.payload == payload_hash(item.payload, item.image)
        ):
            return WrittenItem(item, Change(here.change))
        known = self.change(item, stamp.content)
        return None if known is None else KnownItem(item, stamp, *known)
