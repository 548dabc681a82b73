"""Features and items that are reused without encoding.

Features are those of items whose image is known; items are whole ones of the previous version.

Features come from the ledger, from parts made by partitions, or from the previous version. Items are
carried over when the source does not have them, or has them unreadable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cir.fields import FieldType
from indexer.errors import CarryFailed
from indexer.items import NO_STAMP, Change, EmbeddedItem, KnownItem, LoadedItem
from indexer.ledger import Ledger
from indexer.parts import Parts
from indexer.read import read_image
from indexer.rejects import Reject
from indexer.report import Tally
from indexer.sources.base import FileStat, ImageError, ImageRef, SourceItem
from indexer.versions import PreviousVersion
from indexer.write import BatchWriter
from vector_store.errors import InvalidQueryError
from vector_store.types import Item
from vector_store.validation import check_payload


class FeatureReuse:
    """Features of a model that need no encoding; `remark` is called when the version cannot be opened."""

    def __init__(
        self,
        ledger: Ledger,
        fingerprint: str,
        previous: PreviousVersion | None,
        remark: Callable[[str], None],
        parts: Parts | None = None,
    ) -> None:
        self._ledger = ledger
        self._fingerprint = fingerprint
        self._base = previous
        self._remark = remark
        self._parts = parts
        self._remarked = False

    async def take(
        self, items: Sequence[KnownItem], max_bytes: int
    ) -> tuple[list[EmbeddedItem], list[LoadedItem | Reject]]:
        """Return items with their features, and those to encode after all, with their bytes.

        The latter were deleted or replaced in the previous version by somebody else, or that version is open
        in another process and no features were kept.
        """
        kept = await asyncio.to_thread(self._kept, items)
        pairs = zip(items, kept, strict=True)
        wanted = sorted({item.known_as for item, features in pairs if features is None and item.known_as})
        stored = await self._stored(wanted) if wanted else {}
        taken: list[EmbeddedItem] = []
        left: list[KnownItem] = []
        for item, features in zip(items, kept, strict=True):
            found = features
            if found is None and item.known_as in stored:
                found = stored[item.known_as].features
            if found is None:
                left.append(item)
            else:
                taken.append(EmbeddedItem(item.item, found, item.stamp, item.change))
        return taken, await asyncio.to_thread(_read_all, left, max_bytes)

    async def _stored(self, ids: Sequence[str]) -> dict[str, Item]:
        if self._base is None:
            return {}
        reader = await self._base.reader()
        if reader is not None:
            stored = await reader.retrieve(ids, with_features=True)
            return {item_id: item for item_id, item in stored.items() if not item.online}
        if not self._remarked:
            self._remarked = True
            self._remark(f"images that have not changed are encoded again: {self._base.unreadable}")
        return {}

    def _kept(self, items: Sequence[KnownItem]) -> list[NDArray[np.float32] | None]:
        return [self._kept_of(item.item.id, item.stamp.content) for item in items]

    def _kept_of(self, item_id: str, content: str) -> NDArray[np.float32] | None:
        kept = self._ledger.kept_features(self._fingerprint, content)
        if kept is None and self._parts is not None:
            return self._parts.features(item_id, content)
        return kept


def _read_all(items: Sequence[KnownItem], max_bytes: int) -> list[LoadedItem | Reject]:
    loaded = (read_image(item.item, max_bytes) for item in items)
    return [
        entry
        if isinstance(entry, Reject)
        else LoadedItem(entry.item, entry.content, entry.stamp, item.change)
        for item, entry in zip(items, loaded, strict=True)
    ]


_PAGE = 256


class _RememberedImage(ImageRef):
    """The place of an image that the ledger remembers; it is not read again."""

    def __init__(self, location: str) -> None:
        self._location = location

    def stat(self) -> FileStat:
        return FileStat()

    def read(self, max_bytes: int) -> bytes:
        raise ImageError("", f"{self._location} is not in the source")

    def __str__(self) -> str:
        return self._location


async def carry_over(
    ids: Sequence[str],
    previous: PreviousVersion,
    ledger: Ledger,
    building: int,
    writer: BatchWriter,
    tally: Tally,
    schema: Mapping[str, FieldType],
    *,
    rejected: Collection[str] = (),
    leave_out: bool = False,
) -> list[str]:
    """Write those of `ids` that the previous version holds as they are there; those written already stay.

    `rejected` are those that the source gives and that were rejected; with `leave_out`, such of them as do
    not fit the new schema are not taken over, and returned.

    Raises:
        CarryFailed: the previous version cannot be read, or an item does not fit the new schema.
    """
    left_out: list[str] = []
    refused = set(rejected)
    for start in range(0, len(ids), _PAGE):
        rows = await asyncio.to_thread(
            lambda some: [ledger.entry(building, item_id) for item_id in some], ids[start : start + _PAGE]
        )
        missing = []
        for item_id, row in zip(ids[start : start + _PAGE], rows, strict=True):
            if row is None or row.state != "written":
                missing.append(item_id)
            elif row.change == Change.CARRIED:
                tally.count([Change.CARRIED])
        if not missing:
            continue
        if (reader := await previous.reader()) is None:
            # Before the first item is missing from the new version rather than after.
            held = await asyncio.to_thread(_held, ledger, previous.key, missing)
            if held or not await previous.is_known(ledger):
                raise CarryFailed(
                    f"items such as {(held or missing)[0]!r} must be taken over from version "
                    f"{previous.info.version}; {previous.unreadable}. Nothing was published"
                )
            continue
        stored = await reader.retrieve(missing, with_features=True)
        items = [stored[item_id] for item_id in missing if item_id in stored]
        fitting = []
        for item in items:
            if (misfit := _misfit(item, schema)) is None:
                fitting.append(item)
            elif item.id in refused and leave_out:
                left_out.append(item.id)
            else:
                raise CarryFailed(_cannot_stay(misfit, rejected=item.id in refused))
        if fitting:
            await writer.write(await asyncio.to_thread(_embedded, fitting, ledger, previous.key))
    return left_out


def _held(ledger: Ledger, version: int, ids: Sequence[str]) -> list[str]:
    rows = [ledger.entry(version, item_id) for item_id in ids]
    return [row.id for row in rows if row is not None and row.state == "written"]


def _misfit(item: Item, schema: Mapping[str, FieldType]) -> str | None:
    try:
        check_payload(item.payload, schema, item=item.id)
    except InvalidQueryError as error:
        return str(error)
    return None


def _cannot_stay(misfit: str, *, rejected: bool) -> str:
    if rejected:
        return (
            "an item that the source gives was rejected, and as it was published it does not fit: "
            f"{misfit}. Correct it in the source, or delete it with `sync` and `allow_delete`"
        )
    return (
        f"an item that stays from the published version does not fit: {misfit}. Give the field's type "
        "with `schema`, put the item into the source, or leave it out with `sync`"
    )


def _embedded(items: Sequence[Item], ledger: Ledger, version: int) -> list[EmbeddedItem]:
    carried = []
    for item in items:
        row = ledger.entry(version, item.id)
        place = Path() if row is None else _RememberedImage(row.location)
        source = SourceItem(item.id, place, item.image, item.payload)
        assert item.features is not None  # noqa: S101  # they were asked for
        # What was written online is not what the ledger remembers of that id.
        stamp = NO_STAMP if row is None or item.online else row.stamp
        carried.append(EmbeddedItem(source, item.features, stamp, Change.CARRIED))
    return carried
