"""Search requests parsed at the door: kinds of turns, random messages, and what binds page tokens."""

from __future__ import annotations

import math
import random
from contextlib import suppress

import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from cir.common.v1 import errors_pb2
from cir.common.v1.vectors_pb2 import VectorBatch
from cir.limits import item_id_problem
from cir.search.v1 import catalog_pb2
from cir.search.v1.search_pb2 import Reference, SearchRequest, Turn
from cir.vectors import pack
from search_service import catalog_requests
from search_service.query import TurnKind
from search_service.request import (
    FeaturesReference,
    ImageReference,
    ItemReference,
    SearchQuery,
    parse_search,
    query_digest,
)
from search_service.settings import SearchSettings
from service_runtime.errors import ServiceError
from tests.random_messages import random_message

SETTINGS = SearchSettings(max_image_bytes=32, max_feedback_items=8)
SHOP = "catalogs/shop"


def kinds(*turns: Turn) -> list[TurnKind]:
    query = parse_search(SearchRequest(parent=SHOP, turns=turns), SETTINGS)
    return [turn.kind for turn in query.turns]


def test_kinds() -> None:
    text, liked = Turn(text="red"), Turn(liked_item_ids=["a"])
    reference = Turn(reference=Reference(item_id="a"))
    both = Turn(reference=Reference(image=b"a"), text="red")
    assert kinds(text) == [TurnKind.TEXT_ONLY]
    assert kinds(text, text, liked) == [TurnKind.TEXT_ONLY, TurnKind.CONTINUED, TurnKind.FEEDBACK_ONLY]
    assert kinds(reference, both) == [TurnKind.REFERENCE_ONLY, TurnKind.COMPOSED]
    for turn in (Turn(), liked):
        with pytest.raises(ServiceError, match="the first turn needs"):
            kinds(turn)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (
            SearchRequest(turns=[Turn(text="red", liked_item_ids=["a", "b"], disliked_item_ids=["c", "b"])]),
            "turns[0].disliked_item_ids[1]",
        ),
        (SearchRequest(turns=[Turn(text="red")], group_size=2), "group_size"),
    ],
)
def test_what_contradicts_itself_is_refused(request_: SearchRequest, field: str) -> None:
    request_.parent = SHOP
    with pytest.raises(ServiceError) as raised:
        parse_search(request_, SETTINGS)
    assert (raised.value.reason, raised.value.field) == (errors_pb2.FIELD_INVALID, field)


def test_a_later_turn_may_dislike_what_an_earlier_one_liked() -> None:
    turns = [Turn(text="red", liked_item_ids=["a"]), Turn(disliked_item_ids=["a"])]
    assert len(parse_search(SearchRequest(parent=SHOP, turns=turns), SETTINGS).turns) == 2


def test_references_are_typed() -> None:
    features = pack(np.ones((1, 3), np.float32), fingerprint="clip")
    turns = [
        Turn(reference=Reference(image=b"a")),
        Turn(reference=Reference(item_id="a")),
        Turn(reference=Reference(features=features)),
        Turn(text="red"),
    ]
    query = parse_search(SearchRequest(parent=SHOP, turns=turns), SETTINGS)
    image, item, sent, nothing = (turn.reference for turn in query.turns)
    assert (image, item, nothing) == (ImageReference(b"a"), ItemReference("a"), None)
    assert isinstance(sent, FeaturesReference)
    assert (sent.fingerprint, sent.features.tolist()) == ("clip", [1, 1, 1])


@pytest.mark.parametrize("item_id", ["羽绒　红.jpg", "a\u00a0b", "a\u200bb", "a\u00adb", "🧥", "x" * 2048])
def test_every_id_that_can_be_indexed_can_be_asked_for(item_id: str) -> None:
    turns = [Turn(reference=Reference(item_id=item_id), liked_item_ids=[item_id])]
    query = parse_search(SearchRequest(parent=SHOP, turns=turns, exclude_item_ids=[item_id]), SETTINGS)
    assert query.turns[0].reference == ItemReference(item_id)
    assert item_id_problem(item_id) == ""


@given(st.integers(0, 2**32 - 1))
def test_random_messages_are_refused_or_valid(seed: int) -> None:
    source = random.Random(seed)
    message = random_message(SearchRequest(), source)
    if source.random() < 0.8:  # most random names are refused at once
        message.parent = SHOP
        message.ClearField("pinned_version")
        message.ClearField("page_token")
    if source.random() < 0.8 and message.turns:
        message.turns[0].text = "red"
    try:
        query = parse_search(message, SETTINGS)
    except ServiceError:
        return
    check_valid(query)


def check_valid(query: SearchQuery) -> None:
    """Check what the code behind the door relies on."""
    assert query.catalog
    assert query.combiner
    assert 1 <= len(query.turns) <= SETTINGS.max_turns
    assert query.turns[0].kind not in (TurnKind.CONTINUED, TurnKind.FEEDBACK_ONLY)
    assert all(turn.kind is not TurnKind.TEXT_ONLY for turn in query.turns[1:])
    for turn in query.turns:
        assert (turn.reference is not None) == (turn.kind in (TurnKind.COMPOSED, TurnKind.REFERENCE_ONLY))
        assert bool(turn.text) == (turn.kind not in (TurnKind.REFERENCE_ONLY, TurnKind.FEEDBACK_ONLY))
        if turn.text_weight is not None:
            assert 0 <= turn.text_weight <= 1
            assert turn.kind in (TurnKind.COMPOSED, TurnKind.CONTINUED)
        assert all(item_id_problem(item_id) == "" for item_id in (*turn.liked, *turn.disliked))
        match turn.reference:
            case ImageReference(content):
                assert 1 <= len(content) <= SETTINGS.max_image_bytes
            case ItemReference(item_id):
                assert item_id_problem(item_id) == ""
            case FeaturesReference(features):
                assert features.ndim == 1
                assert math.isfinite(float(np.linalg.norm(features.astype(np.float64))))
                assert features.any()
    assert 1 <= query.page_size <= SETTINGS.max_results
    assert 0 <= query.offset < SETTINGS.max_result_window
    assert 0 <= query.options.diversity <= 1
    assert not (query.options.diversity and query.options.group_by)
    assert query.options.score_threshold is None or -1 <= query.options.score_threshold <= 1
    assert query.where is None or query.where


@given(st.integers(0, 2**32 - 1))
def test_random_requests_about_items_are_refused_or_parsed(seed: int) -> None:
    source = random.Random(seed)
    for name, parse in (
        ("ListItemsRequest", catalog_requests.parse_list_items),
        ("FacetItemsRequest", catalog_requests.parse_facets),
        ("BatchDeleteItemsRequest", catalog_requests.parse_deletion),
    ):
        message = random_message(getattr(catalog_pb2, name)(), source)
        message.parent = SHOP
        with suppress(ServiceError):
            parse(message, SETTINGS)
    upsert = random_message(catalog_pb2.BatchUpsertItemsRequest(), source)
    update = random_message(catalog_pb2.BatchUpdateItemsRequest(), source)
    for items, parsed in (
        (upsert.items, lambda: catalog_requests.parse_writes(upsert.items, SETTINGS)),
        (update.items, lambda: catalog_requests.parse_updates(update.items, update.update_mask, SETTINGS)),
    ):
        try:
            good, failed = parsed()
        except ServiceError:
            continue
        assert sorted([*(entry.index for entry in good), *failed]) == list(range(len(items)))


# A page may be longer or shorter than the one before, and carry more or less; all else makes another query.
FREE = {"page_token", "page_size", "with_features", "with_query_vector", "explain_turns", "explain_results"}


@pytest.mark.parametrize("field", list(SearchRequest.DESCRIPTOR.fields), ids=lambda field: field.name)
def test_every_field_of_a_query_binds_its_tokens(field: FieldDescriptor) -> None:
    request = SearchRequest(parent="catalogs/a", turns=[Turn(text="x")])
    changed = SearchRequest()
    changed.CopyFrom(request)
    if field.name == "filter":
        changed.filter.must.add().exists.field = "price"
    elif field.name == "turns":
        changed.turns.add(text="y")
    elif field.is_repeated:
        getattr(changed, field.name).append("a")
    elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        setattr(changed, field.name, "catalogs/b")
    else:
        setattr(changed, field.name, 1)
    assert (query_digest(changed) == query_digest(request)) == (field.name in FREE)


@pytest.mark.parametrize(
    "turn",
    [
        Turn(text="y"),
        Turn(text="x", text_weight=0.5),
        Turn(text="x", liked_item_ids=["a"]),
        Turn(text="x", disliked_item_ids=["a"]),
        Turn(text="x", reference=Reference(item_id="a")),
        Turn(text="x", reference=Reference(image=b"a")),
        Turn(text="x", reference=Reference(features=VectorBatch(data=b"a"))),
    ],
)
def test_every_part_of_a_turn_binds_tokens(turn: Turn) -> None:
    request = SearchRequest(parent="catalogs/a", turns=[Turn(text="x")])
    assert query_digest(SearchRequest(parent="catalogs/a", turns=[turn])) != query_digest(request)
