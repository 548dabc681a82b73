"""Online changes of payloads and image locations; vectors stay, and each bad item fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from cir.common.v1 import errors_pb2 as errors
from cir.search.v1 import catalog_pb2 as pb
from search_service.item_writes import MAX_LOCATION, check_payload_bytes
from search_service.names import check_item_id
from search_service.payload import read_payload, write_payload
from search_service.settings import SearchSettings
from search_service.store_refusals import store_refusals
from search_service.update_mask import UpdateMask
from service_runtime.errors import ServiceError
from vector_store.contract import CatalogReader
from vector_store.errors import InvalidQuery
from vector_store.points import Payload, PayloadBatch


@dataclass(slots=True)
class _Changed:
    """An item as it will be, and which entries of the request made it so."""

    payload: Payload
    image: str
    entries: list[int] = field(default_factory=list)


class ItemUpdates:
    """Reads items, changes them by a mask and writes them back.

    One call at a time does so for a catalog: two that set different fields of one item both count. Several
    search services over one server have no such lock, and the later one wins.
    """

    def __init__(self, settings: SearchSettings) -> None:
        self._settings = settings
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def update(
        self, items: Sequence[pb.Item], mask: UpdateMask | None, reader: CatalogReader
    ) -> pb.UpdateItemsResponse:
        """Change the items that can be; the answer has one error for each that cannot."""
        failed: dict[int, errors.ItemError] = {}
        given: dict[int, Payload] = {}
        for index, item in enumerate(items):
            try:
                given[index] = self._read(index, item)
            except ServiceError as error:
                failed[index] = error.item_error(index, item_id=item.id)
        async with self._locks.setdefault(reader.info.catalog, asyncio.Lock()):
            changed = await self._change(items, given, mask, reader, failed)
            await _store(changed, reader, failed)
        updated = sum(len(item.entries) for item in changed.values()) if changed else 0
        updated -= sum(index in failed for item in changed.values() for index in item.entries)
        return pb.UpdateItemsResponse(updated=updated, errors=[failed[index] for index in sorted(failed)])

    def _read(self, index: int, item: pb.Item) -> Payload:
        where = f"items[{index}]"
        check_item_id(item.id, field=f"{where}.id")
        if item.HasField("features"):
            raise ServiceError(
                errors.FIELD_INVALID, f"{where}.features: vectors are not updated; use UpsertItems"
            )
        if len(item.image) > MAX_LOCATION:
            raise ServiceError(errors.OUT_OF_RANGE, f"{where}.image has at most {MAX_LOCATION} characters")
        check_payload_bytes(item.payload, self._settings, where)
        return read_payload(item.payload, field=f"{where}.payload")

    async def _change(
        self,
        items: Sequence[pb.Item],
        given: dict[int, Payload],
        mask: UpdateMask | None,
        reader: CatalogReader,
        failed: dict[int, errors.ItemError],
    ) -> dict[str, _Changed]:
        """Items by id as they will be; those that do not exist are noted."""
        stored = await reader.retrieve(list(dict.fromkeys(items[index].id for index in given)))
        changed: dict[str, _Changed] = {}
        for index, payload in given.items():
            item = items[index]
            before = changed.get(item.id) or stored.get(item.id)
            try:
                if before is None:
                    raise ServiceError(
                        errors.ITEM_NOT_FOUND,
                        f"items[{index}]: catalog {reader.info.catalog} has no item {item.id!r}",
                    )
                how = mask or UpdateMask(item.HasField("payload"), (), bool(item.image))
                after = how.payload_of(before.payload, payload)
                if how.fields:
                    message = write_payload(after, reader.info.spec.schema)
                    check_payload_bytes(message, self._settings, f"items[{index}]")
            except ServiceError as error:
                failed[index] = error.item_error(index, item_id=item.id)
                continue
            entry = changed.setdefault(item.id, _Changed(after, before.image))
            entry.payload = after
            entry.image = item.image if how.image else before.image
            entry.entries.append(index)
        return changed


async def _store(
    changed: dict[str, _Changed], reader: CatalogReader, failed: dict[int, errors.ItemError]
) -> None:
    """Write in one batch; where the store refuses it, item by item, so that only the bad ones fail."""
    try:
        await _write(changed, reader)
    except InvalidQuery:
        for item_id, item in changed.items():
            try:
                with store_refusals(field=f"items[{item.entries[-1]}].payload"):
                    await _write({item_id: item}, reader)
            except ServiceError as error:
                failed.update({index: error.item_error(index, item_id=item_id) for index in item.entries})


async def _write(changed: dict[str, _Changed], reader: CatalogReader) -> None:
    await reader.set_payloads(
        PayloadBatch(
            ids=list(changed),
            payloads=[item.payload for item in changed.values()],
            images=[item.image for item in changed.values()],
        )
    )
