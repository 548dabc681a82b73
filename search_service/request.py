"""Search requests, parsed once at the door into values that are valid by construction. Pure.

Nothing behind `parse_search` reads the message. What depends on the catalog's version (do features and filter
fit it?) is checked as soon as the version is pinned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cir.common.v1 import errors_pb2 as errors
from cir.common.v1 import vectors_pb2
from cir.composers import JOINT_PREFIX
from cir.search.v1 import search_pb2 as pb
from cir.vectors import DimensionError, NotFiniteError, VectorError, unpack
from search_service.filters import parse_filter
from search_service.names import check_item_id, parse_catalog, parse_version
from search_service.query import FeedbackMethod, TurnKind
from search_service.settings import SearchSettings
from service_runtime.errors import ServiceError
from service_runtime.page_token import PageToken, invalid_page_token, request_digest
from vector_store.base import SearchOptions
from vector_store.filters import Filter, HasId

MAX_IDS = 1000
MAX_EXCLUDED = 1000
MAX_EF = 10_000
MAX_GROUP_SIZE = 100
DEFAULT_PAGE_SIZE = 10

# Features outside this range have no direction that float32 could keep.
_LENGTHS = (1e-12, 1e12)
_FEEDBACK: Mapping[int, FeedbackMethod] = {
    pb.FEEDBACK_METHOD_UNSPECIFIED: FeedbackMethod.ROCCHIO,
    pb.FEEDBACK_METHOD_ROCCHIO: FeedbackMethod.ROCCHIO,
    pb.FEEDBACK_METHOD_RECOMMEND: FeedbackMethod.RECOMMEND,
}


@dataclass(frozen=True, slots=True)
class ImageReference:
    """An encoded image, to be embedded."""

    content: bytes


@dataclass(frozen=True, slots=True)
class ItemReference:
    """An item of the catalog, whose stored features are used."""

    item_id: str


@dataclass(frozen=True, slots=True, eq=False)
class FeaturesReference:
    """Raw features float32 (d,) of an image; `fingerprint` names their model, empty where nothing does."""

    features: NDArray[np.float32]
    fingerprint: str


Reference = ImageReference | ItemReference | FeaturesReference


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a dialogue.

    `reference` is None in turns of kind TEXT_ONLY, CONTINUED and FEEDBACK_ONLY; `text` is empty in turns of
    kind REFERENCE_ONLY and FEEDBACK_ONLY. The first turn is never CONTINUED or FEEDBACK_ONLY.
    """

    kind: TurnKind
    reference: Reference | None
    text: str
    liked: tuple[str, ...]
    disliked: tuple[str, ...]
    text_weight: float | None


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A search request. There is at least one turn.

    `version` is empty for the published one; where it comes from a page token, `created` is the moment that
    it was created at, by that token, and else empty. `where` holds the request's filter and the items to
    leave out; it is None where every item passes. `digest` binds page tokens to the query. Without
    `names_combiner`, `combiner` is the settings' default; `adapted` is then the catalog's own that answered
    the page before, if one did.
    """

    catalog: str
    version: str
    created: str
    turns: tuple[Turn, ...]
    combiner: str
    feedback: FeedbackMethod
    where: Filter | None
    page_size: int
    offset: int
    options: SearchOptions
    with_features: bool
    with_query_vector: bool
    explain_turns: bool
    explain_results: bool
    digest: bytes
    names_combiner: bool
    adapted: str

    @property
    def uses_combiner(self) -> bool:
        """Tell whether a turn combines a reference, or the query before it, with a text."""
        return any(turn.kind in (TurnKind.COMPOSED, TurnKind.CONTINUED) for turn in self.turns)

    @property
    def explains_turns(self) -> bool:
        """Tell whether turns that are combined are to be explained, and there are any."""
        return self.explain_turns and self.uses_combiner

    @property
    def goes_on_from_text(self) -> bool:
        """Tell whether the query of a first turn that is a text alone is combined with another text."""
        kinds = [turn.kind for turn in self.turns]
        return kinds[0] is TurnKind.TEXT_ONLY and TurnKind.CONTINUED in kinds

    @property
    def has_feedback(self) -> bool:
        """Tell whether a turn names liked or disliked items."""
        return any(turn.liked or turn.disliked for turn in self.turns)


def parse_search(message: pb.SearchRequest, settings: SearchSettings) -> SearchQuery:
    """Parse a search request within the limits of the settings.

    Raises:
        ServiceError: It names the first field that is missing, wrong or over its limit.
    """
    catalog = parse_catalog(message.parent, field="parent")
    turns = _parse_turns(message.turns, settings)
    _check_at_most(len(message.exclude_item_ids), MAX_EXCLUDED, "excluded items", "exclude_item_ids")
    for index, item_id in enumerate(message.exclude_item_ids):
        check_item_id(item_id, field=f"exclude_item_ids[{index}]")
    _check_range(message.page_size, 0, settings.max_results, "page_size")
    options = _parse_options(message)
    feedback = _FEEDBACK.get(message.feedback)
    if feedback is None:
        raise ServiceError(
            errors.FIELD_INVALID,
            f"feedback is {int(message.feedback)}; it is FEEDBACK_METHOD_ROCCHIO (1) or "
            "FEEDBACK_METHOD_RECOMMEND (2)",
            field="feedback",
        )
    if options.diversity and options.group_by:
        raise ServiceError(
            errors.FIELD_INVALID, "diversity and group_by cannot be used together", field="group_by"
        )
    where = parse_filter(message.filter, max_conditions=settings.max_filter_conditions)
    digest = query_digest(message)
    position, adapted = _parse_position(message, catalog, digest, settings)
    combiner = message.combiner or settings.default_combiner
    if combiner.startswith(JOINT_PREFIX):
        _check_joint(combiner, turns)
    return SearchQuery(
        catalog=catalog,
        version=position.version,
        created=position.created,
        turns=turns,
        combiner=combiner,
        feedback=feedback,
        where=_leave_out(where, _parse_excluded(message, turns)) or None,
        page_size=message.page_size or DEFAULT_PAGE_SIZE,
        offset=position.offset,
        options=options,
        with_features=message.with_features,
        with_query_vector=message.with_query_vector,
        explain_turns=message.explain_turns,
        explain_results=message.explain_results,
        digest=digest,
        names_combiner=bool(message.combiner),
        adapted=adapted,
    )


def query_digest(message: pb.SearchRequest) -> bytes:
    """Return the digest of what the pages of one ranking have in common; their tokens are bound to it."""
    return request_digest(
        message,
        "page_token",
        "page_size",
        "with_features",
        "with_query_vector",
        "explain_turns",
        "explain_results",
    )


def parse_features(batch: vectors_pb2.VectorBatch, *, field: str) -> FeaturesReference:
    """Parse exactly one vector of raw features.

    Raises:
        ServiceError: WRONG_DIMENSION, NOT_FINITE (also for length zero) or FIELD_INVALID.
    """
    try:
        rows = unpack(batch)
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
    length = float(np.linalg.norm(rows[0].astype(np.float64)))
    if not _LENGTHS[0] < length < _LENGTHS[1]:
        raise ServiceError(
            errors.NOT_FINITE, f"{field} has length {length:g}; it has no direction", field=field
        )
    return FeaturesReference(rows[0], batch.model_fingerprint)


def parse_item_ids(ids: Sequence[str]) -> list[str]:
    """Parse a list of item ids: each once, in their order.

    Raises:
        ServiceError: The list is empty or too long, or an id cannot be one.
    """
    check_count(len(ids), MAX_IDS, "item_ids")
    for index, item_id in enumerate(ids):
        check_item_id(item_id, field=f"item_ids[{index}]")
    return list(dict.fromkeys(ids))


def check_count(count: int, limit: int, field: str) -> None:
    """Check that a list has 1 to `limit` entries.

    Raises:
        ServiceError: FIELD_REQUIRED or TOO_MANY_ITEMS.
    """
    if not count:
        raise ServiceError(errors.FIELD_REQUIRED, f"{field} is empty; give at least one", field=field)
    if count > limit:
        raise ServiceError(
            errors.TOO_MANY_ITEMS, f"{count} {field}; at most {limit} are taken in one call", field=field
        )


def _parse_turns(messages: Sequence[pb.Turn], settings: SearchSettings) -> tuple[Turn, ...]:
    if not messages:
        raise ServiceError(errors.FIELD_REQUIRED, "turns is empty; send at least one turn", field="turns")
    if len(messages) > settings.max_turns:
        raise ServiceError(
            errors.TOO_MANY_ITEMS,
            f"{len(messages)} turns; at most {settings.max_turns} are taken",
            field="turns",
        )
    turns = tuple(
        _parse_turn(message, settings, first=index == 0, field=f"turns[{index}]")
        for index, message in enumerate(messages)
    )
    feedback = sum(len(turn.liked) + len(turn.disliked) for turn in turns)
    _check_at_most(feedback, settings.max_feedback_items, "liked and disliked items", "turns")
    return turns


def _check_joint(name: str, turns: Sequence[Turn]) -> None:
    """Refuse turns that a joint encoder cannot read: it reads images themselves, and weighs nothing."""
    for index, turn in enumerate(turns):
        if turn.kind not in (TurnKind.COMPOSED, TurnKind.CONTINUED):
            continue
        if not isinstance(turn.reference, ImageReference):
            raise ServiceError(
                errors.FIELD_INVALID,
                f"turns[{index}]: {name} reads the image itself; send reference.image with the text, or use "
                "a combiner that works on features for items, features and further turns",
                field=f"turns[{index}].reference",
            )
        if turn.text_weight is not None:
            raise ServiceError(
                errors.FIELD_INVALID,
                f"turns[{index}]: {name} weighs nothing; leave text_weight out",
                field=f"turns[{index}].text_weight",
            )


def _parse_turn(message: pb.Turn, settings: SearchSettings, *, first: bool, field: str) -> Turn:
    kind = _parse_kind(message, first=first, field=field)
    if len(message.text) > settings.max_text_characters:
        raise ServiceError(
            errors.TEXT_TOO_LONG,
            f"{field}.text has {len(message.text)} characters; at most {settings.max_text_characters} "
            "are taken",
            field=f"{field}.text",
        )
    if message.text and not message.text.strip():
        raise ServiceError(
            errors.FIELD_INVALID,
            f"{field}.text is white space alone; say what is wanted, or leave text out",
            field=f"{field}.text",
        )
    text_weight = message.text_weight if message.HasField("text_weight") else None
    if text_weight is not None:
        _check_range(text_weight, 0, 1, f"{field}.text_weight")
        if kind not in (TurnKind.COMPOSED, TurnKind.CONTINUED):
            lacking = "nothing that its text changes" if kind is TurnKind.TEXT_ONLY else "no text"
            raise ServiceError(
                errors.FIELD_INVALID,
                f"{field}: text_weight lies between what a turn starts from and its text, and this turn has "
                f"{lacking}; leave text_weight out",
                field=f"{field}.text_weight",
            )
    reference = _parse_reference(message.reference, settings, field=f"{field}.reference")
    for name, ids in (("liked", message.liked_item_ids), ("disliked", message.disliked_item_ids)):
        for index, item_id in enumerate(ids):
            check_item_id(item_id, field=f"{field}.{name}_item_ids[{index}]")
    liked = set(message.liked_item_ids)
    for index, item_id in enumerate(message.disliked_item_ids):
        if item_id in liked:
            where = f"{field}.disliked_item_ids[{index}]"
            raise ServiceError(
                errors.FIELD_INVALID, f"{where} is liked in the same turn, too; give it once", field=where
            )
    return Turn(
        kind=kind,
        reference=reference,
        text=message.text,
        liked=tuple(message.liked_item_ids),
        disliked=tuple(message.disliked_item_ids),
        text_weight=text_weight,
    )


def _parse_kind(message: pb.Turn, *, first: bool, field: str) -> TurnKind:
    """Return the kind of a turn, or refuse one that gives nothing to work with."""
    has_reference = message.reference.WhichOneof("source") is not None
    if message.HasField("reference") and not has_reference:
        raise ServiceError(
            errors.FIELD_REQUIRED,
            f"{field}.reference is empty; set image, item_id or features",
            field=f"{field}.reference",
        )
    if has_reference:
        return TurnKind.COMPOSED if message.text else TurnKind.REFERENCE_ONLY
    if message.text:
        return TurnKind.TEXT_ONLY if first else TurnKind.CONTINUED
    if first:
        raise ServiceError(
            errors.FIELD_REQUIRED, f"{field}: the first turn needs a reference, a text, or both", field=field
        )
    if not (message.liked_item_ids or message.disliked_item_ids):
        raise ServiceError(
            errors.FIELD_REQUIRED,
            f"{field} is empty; give a reference, a text, or liked or disliked items",
            field=field,
        )
    return TurnKind.FEEDBACK_ONLY


def _parse_reference(message: pb.Reference, settings: SearchSettings, *, field: str) -> Reference | None:
    match message.WhichOneof("source"):
        case "image":
            _check_image(message.image, settings, f"{field}.image")
            return ImageReference(message.image)
        case "item_id":
            check_item_id(message.item_id, field=f"{field}.item_id")
            return ItemReference(message.item_id)
        case "features":
            return parse_features(message.features, field=f"{field}.features")
    return None


def _parse_options(message: pb.SearchRequest) -> SearchOptions:
    _check_range(message.ef, 0, MAX_EF, "ef")
    _check_range(message.group_size, 0, MAX_GROUP_SIZE, "group_size")
    if message.group_size and not message.group_by:
        raise ServiceError(
            errors.FIELD_INVALID,
            "group_size is for results that are grouped; name the field in group_by",
            field="group_size",
        )
    _check_range(message.diversity, 0, 1, "diversity")
    score_threshold = message.score_threshold if message.HasField("score_threshold") else None
    if score_threshold is not None:
        _check_range(score_threshold, -1, 1, "score_threshold")
    return SearchOptions(
        exact=message.exact,
        ef=message.ef or None,
        score_threshold=score_threshold,
        with_features=message.with_features or message.explain_results,
        diversity=message.diversity,
        group_by=message.group_by,
        group_size=message.group_size or 1,
    )


def _parse_position(
    message: pb.SearchRequest, catalog: str, digest: bytes, settings: SearchSettings
) -> tuple[PageToken, str]:
    """Return the version to search ('' for the published one) and where in its ranking the page starts.

    Last the combiner of the catalog that answered the page before, if one did.
    """
    version = ""
    if message.pinned_version:
        owner, version = parse_version(message.pinned_version, field="pinned_version")
        if owner != catalog:
            raise ServiceError(
                errors.FIELD_INVALID,
                f"pinned_version is one of catalog {owner}, the search is in catalog {catalog}",
                field="pinned_version",
            )
    if not message.page_token:
        return PageToken(version, "0"), ""
    token = PageToken.decode(message.page_token, digest)
    start, _, adapted = token.cursor.partition(" ")
    token = replace(token, cursor=start)
    if not token.created or token.offset >= settings.max_result_window:
        raise invalid_page_token()
    return token, adapted


def _parse_excluded(message: pb.SearchRequest, turns: Sequence[Turn]) -> set[str]:
    """Return the ids of the items that must not come back."""
    excluded = set(message.exclude_item_ids)
    if message.exclude_references or not message.HasField("exclude_references"):
        references = [turn.reference for turn in turns]
        excluded.update(each.item_id for each in references if isinstance(each, ItemReference))
    if message.exclude_disliked or not message.HasField("exclude_disliked"):
        for turn in turns:
            excluded.update(turn.disliked)
    return excluded


def _leave_out(where: Filter, excluded: set[str]) -> Filter:
    if not excluded:
        return where
    return Filter(where.must, where.should, (*where.must_not, HasId(tuple(sorted(excluded)))))


def _check_image(image: bytes, settings: SearchSettings, field: str) -> None:
    if not image:
        raise ServiceError(errors.IMAGE_EMPTY, f"{field} has no bytes; send an encoded image", field=field)
    if len(image) > settings.max_image_bytes:
        raise ServiceError(
            errors.IMAGE_TOO_MANY_BYTES,
            f"{field} has {len(image)} bytes; at most {settings.max_image_bytes} are taken",
            field=field,
        )


def _check_range(value: float, low: float, high: float, field: str) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise ServiceError(
            errors.OUT_OF_RANGE, f"{field} is {value}; it lies between {low} and {high}", field=field
        )


def _check_at_most(count: int, limit: int, what: str, field: str) -> None:
    if count > limit:
        raise ServiceError(errors.TOO_MANY_ITEMS, f"{count} {what}; at most {limit} are taken", field=field)
