"""Requests, checked before any work is done: limits, ids, ranges, and features that come along. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cir.common.v1 import errors_pb2 as errors
from cir.common.v1 import vectors_pb2
from cir.search.v1 import search_pb2 as pb
from cir.vectors import DimensionError, NotFiniteError, VectorError, unpack
from search_service.names import check_item_id
from search_service.query import turn_kind
from search_service.settings import SearchSettings
from service_runtime.errors import ServiceError
from vector_store.types import VersionSpec

MAX_EXCLUDED = 1000
MAX_EF = 10_000
MAX_GROUP_SIZE = 100
DEFAULT_LIMIT = 10


def check_request(request: pb.SearchRequest, settings: SearchSettings) -> None:
    """Raise `ServiceError` naming the first field that is missing, wrong or over its limit."""
    if not request.turns:
        raise ServiceError(errors.FIELD_REQUIRED, "turns is empty; send at least one turn", field="turns")
    if len(request.turns) > settings.max_turns:
        raise ServiceError(
            errors.TOO_MANY_ITEMS,
            f"{len(request.turns)} turns; at most {settings.max_turns} are taken",
            field="turns",
        )
    for index, turn in enumerate(request.turns):
        _check_turn(turn, settings, first=index == 0, field=f"turns[{index}]")
    feedback = sum(len(turn.liked_item_ids) + len(turn.disliked_item_ids) for turn in request.turns)
    _at_most(feedback, settings.max_feedback_items, "liked and disliked items", "turns")
    _at_most(len(request.exclude_item_ids), MAX_EXCLUDED, "excluded items", "exclude_item_ids")
    for index, item_id in enumerate(request.exclude_item_ids):
        check_item_id(item_id, field=f"exclude_item_ids[{index}]")
    _in_range(request.limit, 0, settings.max_results, "limit")
    _in_range(request.ef, 0, MAX_EF, "ef")
    _in_range(request.group_size, 0, MAX_GROUP_SIZE, "group_size")
    _in_range(request.diversity, 0, 1, "diversity")
    if request.HasField("score_threshold"):
        _in_range(request.score_threshold, -1, 1, "score_threshold")
    if request.feedback not in pb.FeedbackMethod.values():
        raise ServiceError(
            errors.FIELD_INVALID,
            f"feedback is {int(request.feedback)}; it is one of ROCCHIO (1) and RECOMMEND (2)",
            field="feedback",
        )
    if request.diversity and request.group_by:
        raise ServiceError(
            errors.FIELD_INVALID, "diversity and group_by cannot be used together", field="group_by"
        )


def _check_turn(turn: pb.Turn, settings: SearchSettings, *, first: bool, field: str) -> None:
    source = turn.reference.WhichOneof("source")
    has_feedback = bool(turn.liked_item_ids or turn.disliked_item_ids)
    kind = turn_kind(first=first, has_reference=source is not None, has_text=bool(turn.text))
    if turn.HasField("reference") and source is None:
        raise ServiceError(
            errors.FIELD_REQUIRED,
            f"{field}.reference is empty; set image, item_id or features",
            field=f"{field}.reference",
        )
    if kind is None:
        raise ServiceError(
            errors.FIELD_REQUIRED, f"{field}: the first turn needs a reference, a text, or both", field=field
        )
    if source is None and not turn.text and not has_feedback:
        raise ServiceError(
            errors.FIELD_REQUIRED,
            f"{field} is empty; give a reference, a text, or liked or disliked items",
            field=field,
        )
    if len(turn.text) > settings.max_text_characters:
        raise ServiceError(
            errors.TEXT_TOO_LONG,
            f"{field}.text has {len(turn.text)} characters; at most {settings.max_text_characters} are taken",
            field=f"{field}.text",
        )
    if turn.HasField("text_weight"):
        _in_range(turn.text_weight, 0, 1, f"{field}.text_weight")
    if source == "image":
        _check_image(turn.reference.image, settings, f"{field}.reference.image")
    elif source == "item_id":
        check_item_id(turn.reference.item_id, field=f"{field}.reference.item_id")
    for name in ("liked_item_ids", "disliked_item_ids"):
        for index, item_id in enumerate(getattr(turn, name)):
            check_item_id(item_id, field=f"{field}.{name}[{index}]")


def _check_image(image: bytes, settings: SearchSettings, field: str) -> None:
    if not image:
        raise ServiceError(errors.IMAGE_EMPTY, f"{field} has no bytes; send an encoded picture", field=field)
    if len(image) > settings.max_image_bytes:
        raise ServiceError(
            errors.IMAGE_TOO_MANY_BYTES,
            f"{field} has {len(image)} bytes; at most {settings.max_image_bytes} are taken",
            field=field,
        )


def _in_range(value: float, low: float, high: float, field: str) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise ServiceError(
            errors.OUT_OF_RANGE, f"{field} is {value}; it lies between {low} and {high}", field=field
        )


def _at_most(count: int, limit: int, what: str, field: str) -> None:
    if count > limit:
        raise ServiceError(errors.TOO_MANY_ITEMS, f"{count} {what}; at most {limit} are taken", field=field)


def parse_features(batch: vectors_pb2.VectorBatch, spec: VersionSpec, *, field: str) -> NDArray[np.float32]:
    """Raw features float32 (d,), exactly one vector.

    Raises `ServiceError`: FINGERPRINT_MISMATCH, WRONG_DIMENSION, NOT_FINITE (length zero too), FIELD_INVALID.
    """
    if batch.model_fingerprint and batch.model_fingerprint != spec.model_fingerprint:
        raise ServiceError(
            errors.FINGERPRINT_MISMATCH,
            f"{field} come from model {batch.model_fingerprint[:200]}, the catalog's vectors from model "
            f"{spec.model_fingerprint}; embed the picture with the catalog's model",
            field=field,
            metadata={"expected": spec.model_fingerprint, "actual": batch.model_fingerprint[:200]},
        )
    try:
        rows = unpack(batch, dimension=spec.dimension)
    except DimensionError as error:
        raise ServiceError(errors.WRONG_DIMENSION, f"{field}: {error}", field=field) from error
    except NotFiniteError as error:
        raise ServiceError(errors.NOT_FINITE, f"{field}: {error}", field=field) from error
    except VectorError as error:
        raise ServiceError(errors.FIELD_INVALID, f"{field}: {error}", field=field) from error
    if len(rows) != 1:
        raise ServiceError(
            errors.FIELD_INVALID, f"{field} has {len(rows)} vectors; exactly one is expected", field=field
        )
    norm = float(np.linalg.norm(rows[0].astype(np.float64)))
    if not 1e-12 < norm < 1e12:
        raise ServiceError(
            errors.NOT_FINITE, f"{field} has length {norm:g}; it has no direction", field=field
        )
    row: NDArray[np.float32] = rows[0]
    return row


MAX_IDS = 1000


def parse_item_ids(ids: Sequence[str]) -> list[str]:
    """Item ids of a request, each once, in their order. Raises `ServiceError`."""
    check_count(len(ids), MAX_IDS, "item_ids")
    for index, item_id in enumerate(ids):
        check_item_id(item_id, field=f"item_ids[{index}]")
    return list(dict.fromkeys(ids))


def check_count(count: int, limit: int, field: str) -> None:
    """Raise `ServiceError` (FIELD_REQUIRED, TOO_MANY_ITEMS) unless there are 1 to `limit`."""
    if not count:
        raise ServiceError(errors.FIELD_REQUIRED, f"{field} is empty; give at least one", field=field)
    if count > limit:
        raise ServiceError(
            errors.TOO_MANY_ITEMS, f"{count} {field}; at most {limit} are taken in one call", field=field
        )
