"""Online changes of a catalog's items: written, updated by a mask, deleted. Each bad item fails alone."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

import numpy as np
from google.protobuf.field_mask_pb2 import FieldMask
from numpy.typing import NDArray

from cir.common.v1 import errors_pb2 as errors
from cir.common.v1 import payload_pb2
from cir.search.v1 import catalog_pb2 as pb
from search_service.convert import parse_payload, payload_message
from search_service.embedder_client import EmbedderClient
from search_service.filters import parse_filter
from search_service.names import check_item_id
from search_service.request import parse_features, parse_item_ids
from search_service.settings import SearchSettings
from search_service.store import store_refusals
from service_runtime.errors import ServiceError
from vector_store.base import CatalogVersion
from vector_store.errors import InvalidQueryError
from vector_store.filters import Filter
from vector_store.types import Payload, PayloadBatch, PayloadValue, PointBatch, VersionSpec

MAX_LOCATION = 4096


@dataclass(slots=True)
class _Write:
    """One item on its way; id, payload, location and features stay together."""

    index: int
    item_id: str
    payload: Payload
    image: str
    content: bytes
    features: NDArray[np.float32] | None


async def write_items(
    items: Sequence[pb.ItemWrite],
    *,
    reader: CatalogVersion,
    embedder: EmbedderClient,
    settings: SearchSettings,
    timeout: float,
) -> pb.UpsertItemsResponse:
    """Write the items that can be written; the answer has one error for each that cannot."""
    failed: dict[int, errors.ItemError] = {}
    writes: list[_Write] = []
    for index, item in enumerate(items):
        try:
            writes.append(_parse_write(index, item, reader.info.spec, settings))
        except ServiceError as error:
            failed[index] = error.item_error(index, item_id=item.item.id)
    await _embed([write for write in writes if write.features is None], embedder, reader, failed, timeout)
    ready = {write.item_id: write for write in writes if write.index not in failed}  # the last of an id wins
    written = await _store_writes(list(ready.values()), reader, failed)
    return pb.UpsertItemsResponse(written=written, errors=[failed[index] for index in sorted(failed)])


def check_payload_bytes(payload: payload_pb2.Payload, settings: SearchSettings, field: str) -> None:
    """Raise `ServiceError` (OUT_OF_RANGE) for the payload of `field` when it is too large."""
    if payload.ByteSize() > settings.max_payload_bytes:
        raise ServiceError(
            errors.OUT_OF_RANGE,
            f"{field}.payload has {payload.ByteSize()} bytes; at most {settings.max_payload_bytes} are taken",
        )


def _parse_write(index: int, item: pb.ItemWrite, spec: VersionSpec, settings: SearchSettings) -> _Write:
    field = f"items[{index}]"
    check_item_id(item.item.id, field=f"{field}.item.id")
    check_payload_bytes(item.item.payload, settings, f"{field}.item")
    if len(item.item.image) > MAX_LOCATION:
        raise ServiceError(errors.OUT_OF_RANGE, f"{field}.item.image has at most {MAX_LOCATION} characters")
    has_features = item.item.HasField("features")
    if bool(item.content) == has_features:
        raise ServiceError(
            errors.FIELD_REQUIRED, f"{field} has either content (a picture) or item.features, not both"
        )
    if len(item.content) > settings.max_image_bytes:
        raise ServiceError(
            errors.IMAGE_TOO_MANY_BYTES,
            f"{field}.content has {len(item.content)} bytes; at most {settings.max_image_bytes} are taken",
        )
    payload = parse_payload(item.item.payload, field=f"{field}.item.payload")
    features = (
        parse_features(item.item.features, spec, field=f"{field}.item.features") if has_features else None
    )
    return _Write(index, item.item.id, payload, item.item.image, item.content, features)


async def _embed(
    writes: Sequence[_Write],
    embedder: EmbedderClient,
    reader: CatalogVersion,
    failed: dict[int, errors.ItemError],
    timeout: float,
) -> None:
    """Fill in the features of items given as pictures; note those that cannot be read."""
    if not writes:
        return
    rows, problems = await embedder.try_embed_images(
        [write.content for write in writes],
        fingerprint=reader.info.spec.model_fingerprint,
        timeout=timeout,
    )
    bad = {problem.index: problem for problem in problems}
    for place, (write, row) in enumerate(zip(writes, rows, strict=True)):
        if place in bad:
            problem = bad[place]
            failed[write.index] = errors.ItemError(
                index=write.index,
                code=problem.code,
                reason=problem.reason,
                message=f"items[{write.index}].content: {problem.message}",
                item_id=write.item_id,
            )
        else:
            write.features = row


async def _store_writes(
    writes: list[_Write], reader: CatalogVersion, failed: dict[int, errors.ItemError]
) -> int:
    """Write in one batch; where the store refuses it, item by item, so that only the bad ones fail."""
    try:
        await _upsert(writes, reader)
        return len(writes)
    except InvalidQueryError:
        written = 0
        for write in writes:
            try:
                with store_refusals(field=f"items[{write.index}].item.payload"):
                    await _upsert([write], reader)
                written += 1
            except ServiceError as error:
                failed[write.index] = error.item_error(write.index, item_id=write.item_id)
        return written


async def _upsert(writes: Sequence[_Write], reader: CatalogVersion) -> None:
    if not writes:
        return
    features = [write.features for write in writes if write.features is not None]
    await reader.upsert(
        PointBatch(
            ids=[write.item_id for write in writes],
            features=np.stack(features).astype(np.float32, copy=False),
            payloads=[write.payload for write in writes],
            images=[write.image for write in writes],
        )
    )


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
        self, items: Sequence[pb.Item], mask: UpdateMask | None, reader: CatalogVersion
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
            await _store_updates(changed, reader, failed)
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
        return parse_payload(item.payload, field=f"{where}.payload")

    async def _change(
        self,
        items: Sequence[pb.Item],
        given: dict[int, Payload],
        mask: UpdateMask | None,
        reader: CatalogVersion,
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
                    message = payload_message(after, reader.info.spec.schema)
                    check_payload_bytes(message, self._settings, f"items[{index}]")
            except ServiceError as error:
                failed[index] = error.item_error(index, item_id=item.id)
                continue
            entry = changed.setdefault(item.id, _Changed(after, before.image))
            entry.payload = after
            entry.image = item.image if how.image else before.image
            entry.entries.append(index)
        return changed


async def _store_updates(
    changed: dict[str, _Changed], reader: CatalogVersion, failed: dict[int, errors.ItemError]
) -> None:
    """Write in one batch; where the store refuses it, item by item, so that only the bad ones fail."""
    try:
        await _set_payloads(changed, reader)
    except InvalidQueryError:
        for item_id, item in changed.items():
            try:
                with store_refusals(field=f"items[{item.entries[-1]}].payload"):
                    await _set_payloads({item_id: item}, reader)
            except ServiceError as error:
                failed.update({index: error.item_error(index, item_id=item_id) for index in item.entries})


async def _set_payloads(changed: dict[str, _Changed], reader: CatalogVersion) -> None:
    await reader.set_payloads(
        PayloadBatch(
            ids=list(changed),
            payloads=[item.payload for item in changed.values()],
            images=[item.image for item in changed.values()],
        )
    )


def parse_deletion(request: pb.DeleteItemsRequest, *, max_conditions: int) -> list[str] | Filter:
    """What to delete: ids, or a filter that is not empty. Raises `ServiceError`."""
    if not request.HasField("filter"):
        return parse_item_ids(request.item_ids)
    if request.item_ids:
        raise ServiceError(errors.FIELD_INVALID, "give either item_ids or filter, not both", field="filter")
    where = parse_filter(request.filter, max_conditions=max_conditions)
    if not _narrows(where):
        raise ServiceError(
            errors.FIELD_REQUIRED,
            "filter has no condition, so every item would be deleted; name which, or delete the catalog",
            field="filter",
        )
    return where


async def delete_items(which: list[str] | Filter, reader: CatalogVersion, validate_only: bool) -> int:
    """Delete them; how many existed. With `validate_only` they are counted and stay."""
    if isinstance(which, list):
        if validate_only:
            return len(await reader.retrieve(which))
        return await reader.delete(which)
    with store_refusals(field="filter"):
        return await (reader.count(which) if validate_only else reader.delete_where(which))


def _narrows(where: Filter) -> bool:
    """Whether a filter has a condition anywhere; empty ones may be nested in one that is not."""
    return any(
        _narrows(condition) if isinstance(condition, Filter) else True
        for condition in (*where.must, *where.should, *where.must_not)
    )


MAX_PATHS = 256
_FIELD_PATH = re.compile(r"payload\.fields\.(?:(\w+)|`([^`]+)`)", re.ASCII)


@dataclass(frozen=True, slots=True)
class UpdateMask:
    """`payload` and `image` are replaced as wholes, `fields` are set or removed one by one."""

    payload: bool
    fields: tuple[str, ...]
    image: bool

    def payload_of(self, stored: Payload, given: Mapping[str, PayloadValue]) -> Payload:
        """An item's payload after the update."""
        if self.payload:
            return given
        kept = {name: value for name, value in stored.items() if name not in self.fields}
        return kept | {name: given[name] for name in self.fields if name in given}


def parse_update_mask(mask: FieldMask) -> UpdateMask | None:
    """The mask of a request; None where it is empty and each item says what changes by what it has.

    Raises `ServiceError` (FIELD_INVALID, OUT_OF_RANGE).
    """
    if len(mask.paths) > MAX_PATHS:
        raise ServiceError(
            errors.OUT_OF_RANGE, f"update_mask has at most {MAX_PATHS} paths", field="update_mask"
        )
    if not mask.paths:
        return None
    fields: dict[str, None] = {}
    for path in mask.paths:
        if path in ("payload", "image"):
            continue
        named = _FIELD_PATH.fullmatch(path)
        if named is None:
            raise ServiceError(
                errors.FIELD_INVALID,
                f"update_mask has the path {path[:200]!r}; expected payload, payload.fields.NAME or image "
                "(vectors are changed by UpsertItems)",
                field="update_mask",
            )
        fields[named[1] or named[2]] = None
    return UpdateMask("payload" in mask.paths, tuple(fields), "image" in mask.paths)
