"""Online changes of a catalog's items: written, updated by a mask, deleted. Each bad item fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from cir.common.v1 import errors_pb2 as errors
from cir.fields import Payload
from search_service.catalog_requests import Deletion, ItemUpdate, ItemWrite, check_payload_bytes
from search_service.embedder_client import EmbedderClient
from search_service.request import ImageReference
from search_service.store import check_features_fit, check_filter_fits, to_service_error
from service_runtime.errors import ServiceError
from vector_store.base import CatalogVersion, VersionItems
from vector_store.errors import InvalidQueryError, StoreError
from vector_store.types import PayloadBatch, PointBatch, VersionSpec

# Errors of single items, by their place in the request.
Failed = dict[int, errors.ItemError]


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """An item to write with its raw features float32 (d,)."""

    write: ItemWrite
    features: NDArray[np.float32]


async def write_items(
    writes: Sequence[ItemWrite],
    failed: Failed,
    *,
    version: CatalogVersion,
    embedder: EmbedderClient,
    timeout: float,
) -> int:
    """Write the items that can be written; returns their number and notes the others in `failed`."""
    points = sent_points(writes, version.info.spec, failed)
    points += await _embedded_points(writes, version, embedder, timeout, failed)
    points.sort(key=lambda point: point.write.index)
    latest = {point.write.item_id: point for point in points}  # the last of an id wins
    return await store_points(list(latest.values()), version, failed)


async def delete_items(deletion: Deletion, version: CatalogVersion) -> int:
    """Delete items; returns how many existed. With `validate_only` they are counted and stay."""
    which = deletion.which
    if isinstance(which, list):
        if deletion.validate_only:
            return len(await version.retrieve(which))
        return await version.delete(which)
    check_filter_fits(which, version.info.spec)
    return await (version.count(which) if deletion.validate_only else version.delete_where(which))


def sent_points(writes: Sequence[ItemWrite], spec: VersionSpec, failed: Failed) -> list[Point]:
    """Return the items whose features were sent along."""
    points: list[Point] = []
    for write in writes:
        if isinstance(write.source, ImageReference):
            continue
        try:
            check_features_fit(write.source, spec, field=f"items[{write.index}].item.features")
        except ServiceError as error:
            failed[write.index] = error.item_error(write.index, item_id=write.item_id)
        else:
            points.append(Point(write, write.source.features))
    return points


async def _embedded_points(
    writes: Sequence[ItemWrite],
    version: CatalogVersion,
    embedder: EmbedderClient,
    timeout: float,
    failed: Failed,
) -> list[Point]:
    """Return the items given as images, embedded; those that cannot be read are noted."""
    images = [(write, write.source.content) for write in writes if isinstance(write.source, ImageReference)]
    if not images:
        return []
    rows, problems = await embedder.try_embed_images(
        [content for _, content in images],
        fingerprint=version.info.spec.model_fingerprint,
        timeout=timeout,
    )
    return embedded_points([write for write, _ in images], rows, problems, failed)


def embedded_points(
    writes: Sequence[ItemWrite],
    rows: NDArray[np.float32],
    problems: Sequence[errors.ItemError],
    failed: Failed,
) -> list[Point]:
    """Return items given as images with their rows of features; those with a problem are noted."""
    bad = {problem.index: problem for problem in problems}
    points: list[Point] = []
    for place, (write, row) in enumerate(zip(writes, rows, strict=True)):
        if place not in bad:
            points.append(Point(write, row))
            continue
        problem = bad[place]
        failed[write.index] = errors.ItemError(
            index=write.index,
            code=problem.code,
            reason=problem.reason,
            message=f"items[{write.index}].content: {problem.message}",
            item_id=write.item_id,
        )
    return points


async def store_points(points: Sequence[Point], version: VersionItems, failed: Failed) -> int:
    """Write in one batch; where the store refuses it, item by item, so that only the bad ones fail."""
    if not points:
        return 0
    try:
        await _upsert(points, version)
        return len(points)
    except InvalidQueryError:
        written = 0
        for point in points:
            write = point.write
            try:
                await _upsert([point], version)
                written += 1
            except InvalidQueryError as error:
                failed[write.index] = to_service_error(error).item_error(write.index, item_id=write.item_id)
        return written


async def _upsert(points: Sequence[Point], version: VersionItems) -> None:
    await version.upsert(
        PointBatch(
            ids=[point.write.item_id for point in points],
            features=np.stack([point.features for point in points]).astype(np.float32, copy=False),
            payloads=[point.write.payload for point in points],
            images=[point.write.image for point in points],
        )
    )


@dataclass(slots=True)
class _Changed:
    """An item as it will be, and the entries of the request that made it so."""

    payload: Payload
    image: str
    entries: list[int] = field(default_factory=list)


class ItemUpdates:
    """Updates that read items, change them by a mask and write them back.

    One call at a time does so for a catalog: two that set different fields of one item both count. Several
    search services over one server have no such lock, and the later one wins.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def update(self, updates: Sequence[ItemUpdate], failed: Failed, version: CatalogVersion) -> int:
        """Change the items that can be changed; returns their number and notes the others in `failed`."""
        async with self._locks.setdefault(version.info.catalog, asyncio.Lock()):
            changed = await self._apply(updates, failed, version)
            if changed:
                await _store_updates(changed, version, failed)
        return sum(index not in failed for item in changed.values() for index in item.entries)

    async def _apply(
        self, updates: Sequence[ItemUpdate], failed: Failed, version: CatalogVersion
    ) -> dict[str, _Changed]:
        """Return items by id as they will be; those that do not exist are noted."""
        stored = await version.retrieve(list(dict.fromkeys(update.item_id for update in updates)))
        changed: dict[str, _Changed] = {}
        for update in updates:
            index, item_id = update.index, update.item_id
            before = changed.get(item_id) or stored.get(item_id)
            try:
                if before is None:
                    raise ServiceError(
                        errors.ITEM_NOT_FOUND,
                        f"items[{index}]: catalog {version.info.catalog} has no item {item_id!r}",
                    )
                after = update.mask.apply(before.payload, update.payload)
                if update.mask.fields:
                    check_payload_bytes(after, f"items[{index}]")
            except ServiceError as error:
                failed[index] = error.item_error(index, item_id=item_id)
                continue
            entry = changed.setdefault(item_id, _Changed(after, before.image))
            entry.payload = after
            entry.image = update.image if update.mask.image else before.image
            entry.entries.append(index)
        return changed


async def _store_updates(changed: Mapping[str, _Changed], version: CatalogVersion, failed: Failed) -> None:
    """Write in one batch; where the store refuses it, item by item, so that only the bad ones fail."""
    try:
        await _set_payloads(changed, version)
    except InvalidQueryError:
        for item_id, item in changed.items():
            try:
                await _set_payloads({item_id: item}, version)
            except StoreError as error:
                refusal = to_service_error(error)
                failed.update({index: refusal.item_error(index, item_id=item_id) for index in item.entries})


async def _set_payloads(changed: Mapping[str, _Changed], version: CatalogVersion) -> None:
    await version.set_payloads(
        PayloadBatch(
            ids=list(changed),
            payloads=[item.payload for item in changed.values()],
            images=[item.image for item in changed.values()],
        )
    )
