"""Taking over items that the source does not give: those it does not have, and those it has unreadable."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from indexer.base import Base
from indexer.changes import Change
from indexer.errors import CarryFailed
from indexer.items import NO_STAMP, EmbeddedItem, SourceItem
from indexer.ledger import Ledger
from indexer.picture import Picture, PictureError, Seen
from indexer.report import Tally
from indexer.write import BatchWriter
from vector_store.errors import InvalidQueryError
from vector_store.types import FieldType, Item
from vector_store.validation import check_payload

_PAGE = 256


class _Elsewhere(Picture):
    """The place of a picture that the ledger remembers; it is not read again."""

    def __init__(self, location: str) -> None:
        self._location = location

    def look(self) -> Seen:
        return Seen()

    def read(self, max_bytes: int) -> bytes:
        raise PictureError("", f"{self._location} is not in the source")

    def __str__(self) -> str:
        return self._location


async def carry(
    ids: Sequence[str],
    base: Base,
    ledger: Ledger,
    building: int,
    writer: BatchWriter,
    tally: Tally,
    schema: Mapping[str, FieldType],
) -> None:
    """Write those of `ids` that the base holds as they are there; those written already stay.

    Raises `CarryFailed` when the base cannot be read, or an item does not fit the new schema.
    """
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
        if (reader := await base.reader()) is None:
            # Before the first item is missing from the new version rather than after.
            held = await asyncio.to_thread(_held, ledger, base.key, missing)
            if held or not await base.is_known(ledger):
                raise CarryFailed(
                    f"items such as {(held or missing)[0]!r} must be taken over from version "
                    f"{base.info.version}; {base.locked}. Nothing was published"
                )
            continue
        stored = await reader.retrieve(missing, with_features=True)
        items = [stored[item_id] for item_id in missing if item_id in stored]
        _check(items, schema)
        if items:
            await writer.write(await asyncio.to_thread(_embedded, items, ledger, base.key))


def _held(ledger: Ledger, version: int, ids: Sequence[str]) -> list[str]:
    rows = [ledger.entry(version, item_id) for item_id in ids]
    return [row.id for row in rows if row is not None and row.state == "written"]


def _check(items: Sequence[Item], schema: Mapping[str, FieldType]) -> None:
    for item in items:
        try:
            check_payload(item.payload, schema, item=item.id)
        except InvalidQueryError as error:
            raise CarryFailed(
                f"an item that stays from the published version does not fit: {error}. Give the field's type "
                "with --schema, put the item into the source, or leave it out with --sync"
            ) from None


def _embedded(items: Sequence[Item], ledger: Ledger, version: int) -> list[EmbeddedItem]:
    carried = []
    for item in items:
        row = ledger.entry(version, item.id)
        place = Path() if row is None else _Elsewhere(row.location)
        source = SourceItem(item.id, place, item.image, item.payload)
        assert item.features is not None  # noqa: S101  # they were asked for
        # What was written online is not what the ledger remembers of that id.
        stamp = NO_STAMP if row is None or item.online else row.stamp
        carried.append(EmbeddedItem(source, item.features, stamp, Change.CARRIED))
    return carried
