"""Features of everything that the turns of a query name: texts, images and items, looked up side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cir.common.v1 import errors_pb2 as errors
from cir.vectors import normalize
from search_service.embeddings import Embeddings
from search_service.explanations import NEUTRAL_TEXT
from search_service.metrics import StageTimer
from search_service.query import TextCut, TurnFeatures, TurnKind, Vector
from search_service.request import FeaturesReference, ImageReference, ItemReference, Turn
from search_service.store import check_features_fit
from service_runtime.errors import ServiceError
from vector_store.base import CatalogVersion
from vector_store.errors import StoreError
from vector_store.types import Item, VersionSpec


@dataclass(frozen=True, slots=True, eq=False)
class LookedUp:
    """Turns with their features. `start` holds the raw features float32 (d,) that the first one starts from.

    `neutral_text` has the features of the text that stands for none, where it was asked for. `reference` is
    the last reference of all turns, where that is an item of the catalog.
    """

    start: Vector
    turns: Sequence[TurnFeatures]
    neutral_text: Vector | None
    reference: Item | None


# Stands for the neutral text among the numbers of turns.
_NEUTRAL = -1


async def look_up_turns(
    turns: Sequence[Turn],
    *,
    version: CatalogVersion,
    embeddings: Embeddings,
    timer: StageTimer,
    timeout: float,
    neutral_text: bool = False,
) -> LookedUp:
    """Look up the features of a query's turns, and those of the neutral text with them where asked for.

    An indexed reference is not encoded again: the store gives its features back.

    Raises:
        ServiceError: Something cannot be embedded, does not exist, or does not fit the version's model.
        StoreError: The store cannot be used.
    """
    spec = version.info.spec
    # Features that were sent are checked first: it costs nothing and may save the encoders' work.
    for index, turn in enumerate(turns):
        if isinstance(turn.reference, FeaturesReference):
            check_features_fit(turn.reference, spec, field=f"turns[{index}].reference.features")
    (texts, cuts), images, items = await run_side_by_side(
        _embed_texts(turns, embeddings, spec, timer, timeout, neutral=neutral_text),
        _embed_images(turns, embeddings, spec, timer, timeout),
        _retrieve_items(turns, version, timer),
    )
    starts = _starts(turns, texts, images, items)
    looked_up = [
        TurnFeatures(
            kind=turn.kind,
            start=starts.get(index),
            text=None if turn.kind is TurnKind.TEXT_ONLY else texts.get(index),
            liked=_unit_vectors(turn.liked, items, spec.dimension),
            disliked=_unit_vectors(turn.disliked, items, spec.dimension),
            text_weight=turn.text_weight,
            cut=cuts.get(index),
            words=turn.text,
        )
        for index, turn in enumerate(turns)
    ]
    references = [turn.reference for turn in turns if turn.reference is not None]
    last = references[-1] if references else None
    return LookedUp(
        starts[0],
        looked_up,
        texts.get(_NEUTRAL),
        items[last.item_id] if isinstance(last, ItemReference) else None,
    )


async def run_side_by_side(*parts: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run all; the first failure cancels the rest and is raised itself."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in parts]
    except ExceptionGroup as failures:
        # Not by `except*`: what is raised in there comes out in a group of its own.
        _, bugs = failures.split((ServiceError, StoreError))
        if bugs is not None:
            raise
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def _embed_texts(
    turns: Sequence[Turn],
    embeddings: Embeddings,
    spec: VersionSpec,
    timer: StageTimer,
    timeout: float,
    *,
    neutral: bool,
) -> tuple[dict[int, Vector], dict[int, TextCut]]:
    """Return features of texts by turn, and the turns whose text was not read whole.

    With `neutral`, those of the neutral text are among them.
    """
    asked = {index: turn.text for index, turn in enumerate(turns) if turn.text}
    if not asked:
        return {}, {}
    if neutral:
        asked[_NEUTRAL] = NEUTRAL_TEXT
    places = list(asked)
    with timer.stage("embed_texts"):
        embedded = await embeddings.texts(
            list(asked.values()),
            fields=[f"turns[{max(index, 0)}].text" for index in places],
            fingerprint=spec.model_fingerprint,
            timeout=timeout,
        )
    cuts = {places[place]: cut for place, cut in embedded.cuts.items()}
    return dict(zip(places, embedded.features, strict=True)), cuts


async def _embed_images(
    turns: Sequence[Turn],
    embeddings: Embeddings,
    spec: VersionSpec,
    timer: StageTimer,
    timeout: float,
) -> dict[int, Vector]:
    images = {
        index: turn.reference.content
        for index, turn in enumerate(turns)
        if isinstance(turn.reference, ImageReference)
    }
    if not images:
        return {}
    with timer.stage("embed_images"):
        rows = await embeddings.images(
            list(images.values()),
            fields=[f"turns[{index}].reference.image" for index in images],
            fingerprint=spec.model_fingerprint,
            timeout=timeout,
        )
    return dict(zip(images, rows, strict=True))


async def _retrieve_items(
    turns: Sequence[Turn], version: CatalogVersion, timer: StageTimer
) -> dict[str, Item]:
    fields: dict[str, str] = {}
    for index, turn in enumerate(turns):
        if isinstance(turn.reference, ItemReference):
            fields.setdefault(turn.reference.item_id, f"turns[{index}].reference.item_id")
        for name, ids in (("liked_item_ids", turn.liked), ("disliked_item_ids", turn.disliked)):
            for item_id in ids:
                fields.setdefault(item_id, f"turns[{index}].{name}")
    if not fields:
        return {}
    with timer.stage("lookup"):
        items = await version.retrieve(list(fields), with_features=True)
    for item_id, field in fields.items():
        if item_id not in items:
            raise ServiceError(
                errors.ITEM_NOT_FOUND,
                f"{field}: catalog {version.info.catalog} has no item {item_id!r}",
                field=field,
            )
    return items


def _starts(
    turns: Sequence[Turn],
    texts: Mapping[int, Vector],
    images: Mapping[int, Vector],
    items: Mapping[str, Item],
) -> dict[int, Vector]:
    """Return the features that turns start from, by turn; one that continues the turn before has none."""
    starts: dict[int, Vector] = {}
    for index, turn in enumerate(turns):
        match turn.reference:
            case ImageReference():
                starts[index] = images[index]
            case ItemReference(item_id):
                starts[index] = _features(items[item_id])
            case FeaturesReference(features):
                starts[index] = features
            case None if turn.kind is TurnKind.TEXT_ONLY:
                starts[index] = texts[index]
    return starts


def _unit_vectors(item_ids: Sequence[str], items: Mapping[str, Item], dimension: int) -> Vector:
    rows = [normalize(_features(items[item_id])) for item_id in item_ids]
    return np.stack(rows) if rows else np.empty((0, dimension), dtype=np.float32)


def _features(item: Item) -> Vector:
    """Return the features of an item that was retrieved with them."""
    if item.features is None:
        raise AssertionError(f"the store returned item {item.id!r} without the features that were asked for")
    return item.features
