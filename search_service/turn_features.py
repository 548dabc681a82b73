"""Looks everything up that the turns of a request need: texts, pictures and items, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cir.common.v1 import errors_pb2 as errors
from cir.search.v1 import search_pb2 as pb
from cir.vectors import normalize
from search_service.embeddings import SharedEmbeddings
from search_service.metrics import StageTimer
from search_service.query import Turn
from search_service.request import parse_features
from search_service.store import store_refusals
from service_runtime.errors import ServiceError
from vector_store.base import CatalogVersion
from vector_store.types import Item, VersionSpec


async def look_up_turns(
    turns: Sequence[pb.Turn],
    *,
    reader: CatalogVersion,
    embeddings: SharedEmbeddings,
    clock: StageTimer,
    timeout: float,
) -> list[Turn]:
    """The turns with raw features float32 (d,) in place of what they refer to.

    An indexed reference is not encoded again: the store gives its features back. Raises `ServiceError`.
    """
    spec = reader.info.spec
    # Features that were sent are checked first: it costs nothing and may save the encoders' work.
    given = {
        index: parse_features(turn.reference.features, spec, field=f"turns[{index}].reference.features")
        for index, turn in enumerate(turns)
        if turn.reference.WhichOneof("source") == "features"
    }
    texts, images, items = await _side_by_side(
        _texts(turns, embeddings, spec, clock, timeout),
        _images(turns, embeddings, spec, clock, timeout),
        _items(turns, reader, clock),
    )
    return [
        Turn(
            reference=_reference(index, turn, given, images, items),
            text=texts.get(index),
            liked=_units(turn.liked_item_ids, items, spec.dimension),
            disliked=_units(turn.disliked_item_ids, items, spec.dimension),
            text_weight=turn.text_weight if turn.HasField("text_weight") else None,
        )
        for index, turn in enumerate(turns)
    ]


async def _side_by_side(*parts: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run all; the first failure cancels the rest and is raised itself."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in parts]
    except ExceptionGroup as failures:
        # Not by `except*`: what is raised in there comes out in a group of its own.
        _, others = failures.split(ServiceError)
        if others is not None:
            raise
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def _texts(
    turns: Sequence[pb.Turn],
    embeddings: SharedEmbeddings,
    spec: VersionSpec,
    clock: StageTimer,
    timeout: float,
) -> dict[int, NDArray[np.float32]]:
    places = [index for index, turn in enumerate(turns) if turn.text]
    if not places:
        return {}
    with clock.stage("embed_texts"):
        rows = await embeddings.texts(
            [turns[index].text for index in places],
            fields=[f"turns[{index}].text" for index in places],
            fingerprint=spec.model_fingerprint,
            timeout=timeout,
        )
    return dict(zip(places, rows, strict=True))


async def _images(
    turns: Sequence[pb.Turn],
    embeddings: SharedEmbeddings,
    spec: VersionSpec,
    clock: StageTimer,
    timeout: float,
) -> dict[int, NDArray[np.float32]]:
    places = [index for index, turn in enumerate(turns) if turn.reference.WhichOneof("source") == "image"]
    if not places:
        return {}
    with clock.stage("embed_images"):
        rows = await embeddings.images(
            [turns[index].reference.image for index in places],
            fields=[f"turns[{index}].reference.image" for index in places],
            fingerprint=spec.model_fingerprint,
            timeout=timeout,
        )
    return dict(zip(places, rows, strict=True))


async def _items(turns: Sequence[pb.Turn], reader: CatalogVersion, clock: StageTimer) -> dict[str, Item]:
    fields: dict[str, str] = {}
    for index, turn in enumerate(turns):
        if turn.reference.WhichOneof("source") == "item_id":
            fields.setdefault(turn.reference.item_id, f"turns[{index}].reference.item_id")
        for name in ("liked_item_ids", "disliked_item_ids"):
            for item_id in getattr(turn, name):
                fields.setdefault(item_id, f"turns[{index}].{name}")
    if not fields:
        return {}
    with clock.stage("lookup"), store_refusals():
        items = await reader.retrieve(list(fields), with_features=True)
    for item_id, field in fields.items():
        if item_id not in items:
            raise ServiceError(
                errors.ITEM_NOT_FOUND,
                f"{field}: catalog {reader.info.catalog} has no item {item_id!r}",
                field=field,
            )
    return items


def _reference(
    index: int,
    turn: pb.Turn,
    given: dict[int, NDArray[np.float32]],
    images: dict[int, NDArray[np.float32]],
    items: dict[str, Item],
) -> NDArray[np.float32] | None:
    if turn.reference.WhichOneof("source") == "item_id":
        return items[turn.reference.item_id].features
    return given.get(index, images.get(index))


def _units(item_ids: Sequence[str], items: dict[str, Item], dimension: int) -> NDArray[np.float32]:
    rows = [normalize(features) for item_id in item_ids if (features := items[item_id].features) is not None]
    return np.stack(rows) if rows else np.empty((0, dimension), dtype=np.float32)
