"""Online writes: items of a request to points of the store, each failing alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cir.common.v1 import errors_pb2 as errors
from cir.common.v1 import payload_pb2
from cir.search.v1 import catalog_pb2 as pb
from search_service.embedder_client import EmbedderClient
from search_service.names import check_item_id
from search_service.payload import read_payload
from search_service.sent_features import read_features
from search_service.settings import SearchSettings
from search_service.store_refusals import store_refusals
from service_runtime.errors import ServiceError
from vector_store.catalogs import VersionSpec
from vector_store.contract import CatalogReader
from vector_store.errors import InvalidQuery
from vector_store.points import Payload, PointBatch

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
    reader: CatalogReader,
    embedder: EmbedderClient,
    settings: SearchSettings,
    timeout: float,
) -> pb.UpsertItemsResponse:
    """Write the items that can be written; the answer has one error for each that cannot."""
    failed: dict[int, errors.ItemError] = {}
    writes: list[_Write] = []
    for index, item in enumerate(items):
        try:
            writes.append(_read(index, item, reader.info.spec, settings))
        except ServiceError as error:
            failed[index] = error.item_error(index, item_id=item.item.id)
    await _embed([write for write in writes if write.features is None], embedder, reader, failed, timeout)
    ready = {write.item_id: write for write in writes if write.index not in failed}  # the last of an id wins
    written = await _store(list(ready.values()), reader, failed)
    return pb.UpsertItemsResponse(written=written, errors=[failed[index] for index in sorted(failed)])


def check_payload_bytes(payload: payload_pb2.Payload, settings: SearchSettings, field: str) -> None:
    """Raise `ServiceError` (OUT_OF_RANGE) for the payload of `field` when it is too large."""
    if payload.ByteSize() > settings.max_payload_bytes:
        raise ServiceError(
            errors.OUT_OF_RANGE,
            f"{field}.payload has {payload.ByteSize()} bytes; at most {settings.max_payload_bytes} are taken",
        )


def _read(index: int, item: pb.ItemWrite, spec: VersionSpec, settings: SearchSettings) -> _Write:
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
    payload = read_payload(item.item.payload, field=f"{field}.item.payload")
    features = (
        read_features(item.item.features, spec, field=f"{field}.item.features") if has_features else None
    )
    return _Write(index, item.item.id, payload, item.item.image, item.content, features)


async def _embed(
    writes: Sequence[_Write],
    embedder: EmbedderClient,
    reader: CatalogReader,
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


async def _store(writes: list[_Write], reader: CatalogReader, failed: dict[int, errors.ItemError]) -> int:
    """Write in one batch; where the store refuses it, item by item, so that only the bad ones fail."""
    try:
        await _upsert(writes, reader)
        return len(writes)
    except InvalidQuery:
        written = 0
        for write in writes:
            try:
                with store_refusals(field=f"items[{write.index}].item.payload"):
                    await _upsert([write], reader)
                written += 1
            except ServiceError as error:
                failed[write.index] = error.item_error(write.index, item_id=write.item_id)
        return written


async def _upsert(writes: Sequence[_Write], reader: CatalogReader) -> None:
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
