"""Bad and random requests: the right code and reason, the field named, and the next good request works."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import AsyncIterator

import grpc.aio
import numpy as np
import pytest

from cir.common.v1 import errors_pb2, payload_pb2, vectors_pb2
from cir.search.v1 import catalog_pb2, filter_pb2, search_pb2
from cir.search.v1.filter_pb2 import Condition, Filter, MatchAny, Range
from cir.search.v1.search_pb2 import Reference, SearchRequest, Turn
from cir.vectors import pack
from service_runtime.contract import named_part
from service_runtime.errors import ServiceError
from tests.random_messages import FAULTS, REQUESTS, random_message
from tests.refused import refused
from tests.search_service.conftest import Stack
from tests.search_service.neighbours import DIMENSION, UNREADABLE

pytestmark = pytest.mark.service

SHOP = "catalogs/shop"
TEXT = Turn(text="red")
STRING, INTEGER = payload_pb2.Value(string_value="red"), payload_pb2.Value(integer_value=3)


def by_features(values: list[float], **facts: str) -> Turn:
    batch = pack(np.array([values], dtype=np.float32))
    if "fingerprint" in facts:
        batch.model_fingerprint = facts["fingerprint"]
    return Turn(reference=Reference(features=batch))


def where(condition: Condition) -> SearchRequest:
    return SearchRequest(parent=SHOP, turns=[TEXT], filter=Filter(must=[condition]))


def nested(depth: int) -> Filter:
    inner = Filter(must=[Condition(exists=filter_pb2.Exists(field="colour"))])
    for _ in range(depth):
        inner = Filter(must=[Condition(filter=inner)])
    return inner


INVALID: dict[str, tuple[SearchRequest, str, str]] = {
    "no turns": (SearchRequest(parent=SHOP), "FIELD_REQUIRED", "turns"),
    "no catalog": (SearchRequest(turns=[TEXT]), "FIELD_REQUIRED", "parent"),
    "bare catalog": (SearchRequest(parent="shop", turns=[TEXT]), "FIELD_INVALID", "parent"),
    "bad catalog name": (SearchRequest(parent="catalogs/../x", turns=[TEXT]), "FIELD_INVALID", "parent"),
    "empty first turn": (SearchRequest(parent=SHOP, turns=[Turn()]), "FIELD_REQUIRED", "turns[0]"),
    "first turn with likes alone": (
        SearchRequest(parent=SHOP, turns=[Turn(liked_item_ids=["item-1"])]),
        "FIELD_REQUIRED",
        "turns[0]",
    ),
    "empty later turn": (SearchRequest(parent=SHOP, turns=[TEXT, Turn()]), "FIELD_REQUIRED", "turns[1]"),
    "empty reference": (
        SearchRequest(parent=SHOP, turns=[Turn(reference=Reference(), text="x")]),
        "FIELD_REQUIRED",
        "turns[0].reference",
    ),
    "too many turns": (SearchRequest(parent=SHOP, turns=[TEXT] * 17), "TOO_MANY_ITEMS", "turns"),
    "long text in a filter": (
        where(Condition(match_text=filter_pb2.MatchText(field="caption", text="\u0301\u0316" * 501))),
        "TEXT_TOO_LONG",
        "filter.must[0].match_text.text",
    ),
    "many values in a filter": (
        where(Condition(match_any=MatchAny(field="colour", values=[STRING] * 20_000))),
        "OUT_OF_RANGE",
        "filter.must[0].match_any.values",
    ),
    "long text": (
        SearchRequest(parent=SHOP, turns=[Turn(text="x" * 1001)]),
        "TEXT_TOO_LONG",
        "turns[0].text",
    ),
    "blank text": (
        SearchRequest(parent=SHOP, turns=[TEXT, Turn(text=" \u3000\n")]),
        "FIELD_INVALID",
        "turns[1].text",
    ),
    "zero-byte image": (
        SearchRequest(parent=SHOP, turns=[Turn(reference=Reference(image=b""))]),
        "IMAGE_EMPTY",
        "turns[0].reference.image",
    ),
    "unreadable image": (
        SearchRequest(parent=SHOP, turns=[TEXT, Turn(reference=Reference(image=UNREADABLE))]),
        "IMAGE_UNREADABLE",
        "turns[1].reference.image",
    ),
    "wrong vector length": (
        SearchRequest(parent=SHOP, turns=[by_features([1.0] * (DIMENSION + 1))]),
        "WRONG_DIMENSION",
        "turns[0].reference.features",
    ),
    "NaN in features": (
        SearchRequest(parent=SHOP, turns=[by_features([math.nan] * DIMENSION)]),
        "NOT_FINITE",
        "turns[0].reference.features",
    ),
    "zero features": (
        SearchRequest(parent=SHOP, turns=[by_features([0.0] * DIMENSION)]),
        "NOT_FINITE",
        "turns[0].reference.features",
    ),
    "features without data": (
        SearchRequest(
            parent=SHOP, turns=[Turn(reference=Reference(features=vectors_pb2.VectorBatch(dimension=3)))]
        ),
        "FIELD_INVALID",
        "turns[0].reference.features",
    ),
    "ragged features": (
        SearchRequest(
            parent=SHOP,
            turns=[
                Turn(
                    reference=Reference(features=vectors_pb2.VectorBatch(data=b"12345", dimension=DIMENSION))
                )
            ],
        ),
        "WRONG_DIMENSION",
        "turns[0].reference.features",
    ),
    "negative page size": (
        SearchRequest(parent=SHOP, turns=[TEXT], page_size=-1),
        "OUT_OF_RANGE",
        "page_size",
    ),
    "page size over the maximum": (
        SearchRequest(parent=SHOP, turns=[TEXT], page_size=201),
        "OUT_OF_RANGE",
        "page_size",
    ),
    "NaN threshold": (
        SearchRequest(parent=SHOP, turns=[TEXT], score_threshold=math.nan),
        "OUT_OF_RANGE",
        "score_threshold",
    ),
    "text weight over one": (
        SearchRequest(parent=SHOP, turns=[Turn(text="x", text_weight=1.5)]),
        "OUT_OF_RANGE",
        "turns[0].text_weight",
    ),
    "weight of a text that changes nothing": (
        SearchRequest(parent=SHOP, turns=[Turn(text="x", text_weight=0.5)]),
        "FIELD_INVALID",
        "turns[0].text_weight",
    ),
    "weight of no text": (
        SearchRequest(parent=SHOP, turns=[TEXT, Turn(liked_item_ids=["a"], text_weight=0.5)]),
        "FIELD_INVALID",
        "turns[1].text_weight",
    ),
    "control character in item id": (
        SearchRequest(parent=SHOP, turns=[Turn(reference=Reference(item_id="a\nb"))]),
        "FIELD_INVALID",
        "turns[0].reference.item_id",
    ),
    "damaged page token": (
        SearchRequest(parent=SHOP, turns=[TEXT], page_token="rubbish!"),
        "PAGE_TOKEN_INVALID",
        "page_token",
    ),
    "filter on an unknown field": (
        where(Condition(match_any=MatchAny(field="size", values=[STRING]))),
        "UNKNOWN_FIELD",
        "filter",
    ),
    "filter on a wrong type": (
        where(Condition(match_any=MatchAny(field="colour", values=[INTEGER]))),
        "WRONG_FIELD_TYPE",
        "filter",
    ),
    "range on a keyword": (
        where(Condition(range=Range(field="colour", gt=INTEGER))),
        "WRONG_FIELD_TYPE",
        "filter",
    ),
    "string as a bound": (
        where(Condition(range=Range(field="price", gt=STRING))),
        "WRONG_FIELD_TYPE",
        "filter.must[0].range.gt",
    ),
    "empty condition": (where(Condition()), "FIELD_REQUIRED", "filter.must[0]"),
    "too deep a filter": (
        SearchRequest(parent=SHOP, turns=[TEXT], filter=nested(9)),
        "OUT_OF_RANGE",
        "filter" + ".must[0].filter" * 8,
    ),
    "pinned version of another catalog": (
        SearchRequest(parent=SHOP, turns=[TEXT], pinned_version="catalogs/other/versions/v0001"),
        "FIELD_INVALID",
        "pinned_version",
    ),
}


@pytest.fixture
async def sound(stack: Stack) -> AsyncIterator[Stack]:
    """The stack; after the test a good request must work."""
    yield stack
    answer = await stack.search.Search(SearchRequest(parent=SHOP, turns=[TEXT]))
    assert len(answer.results) == 10


async def test_invalid_requests_name_the_field(sound: Stack) -> None:
    for name, (request, reason, field) in INVALID.items():
        refusal = await refused(sound.search.Search(request))
        assert (refusal.code.name, refusal.reason, refusal.field) == ("INVALID_ARGUMENT", reason, field), name
        assert len(refusal.message) > 20, name
        assert named_part(SearchRequest.DESCRIPTOR, field) == field, name


@pytest.mark.parametrize(
    ("request_", "reason", "field"),
    [
        (SearchRequest(parent="catalogs/none", turns=[TEXT]), "CATALOG_NOT_FOUND", "parent"),
        (
            SearchRequest(parent=SHOP, turns=[Turn(reference=Reference(item_id="nobody"))]),
            "ITEM_NOT_FOUND",
            "turns[0].reference.item_id",
        ),
        (
            SearchRequest(parent=SHOP, turns=[Turn(text="x", liked_item_ids=["nobody"])]),
            "ITEM_NOT_FOUND",
            "turns[0].liked_item_ids",
        ),
        (
            SearchRequest(
                parent=SHOP, combiner="none", turns=[Turn(reference=Reference(item_id="item-1"), text="x")]
            ),
            "COMBINER_NOT_FOUND",
            "combiner",
        ),
        (
            SearchRequest(parent=SHOP, turns=[TEXT], pinned_version="catalogs/shop/versions/v9999"),
            "VERSION_NOT_FOUND",
            "pinned_version",
        ),
    ],
)
async def test_unknown_names_are_not_found(
    sound: Stack, request_: SearchRequest, reason: str, field: str
) -> None:
    refusal = await refused(sound.search.Search(request_))
    assert (refusal.code.name, refusal.reason, refusal.field) == ("NOT_FOUND", reason, field)


async def test_page_token_of_another_query_is_refused(sound: Stack) -> None:
    answer = await sound.search.Search(SearchRequest(parent=SHOP, turns=[TEXT], page_size=5))
    other = SearchRequest(
        parent=SHOP, turns=[Turn(text="blue")], page_size=5, page_token=answer.next_page_token
    )
    assert (await refused(sound.search.Search(other))).reason == "PAGE_TOKEN_INVALID"


async def test_features_of_another_model_are_refused_with_both_fingerprints(sound: Stack) -> None:
    turn = by_features([1.0] * DIMENSION, fingerprint="clip-other")
    refusal = await refused(sound.search.Search(SearchRequest(parent=SHOP, turns=[turn])))
    assert (refusal.code.name, refusal.reason) == ("FAILED_PRECONDITION", "FINGERPRINT_MISMATCH")
    assert "clip-other" in refusal.message
    assert "clip-test" in refusal.message


async def test_embedder_with_another_model_is_refused_with_both_fingerprints(stack: Stack) -> None:
    stack.embedder.fingerprint = "clip-other"
    refusal = await refused(stack.search.Search(SearchRequest(parent=SHOP, turns=[TEXT])))
    assert (refusal.code.name, refusal.reason) == ("FAILED_PRECONDITION", "FINGERPRINT_MISMATCH")
    assert "clip-other" in refusal.message
    assert "clip-test" in refusal.message


async def test_embedder_down_is_unavailable_and_items_still_work(stack: Stack) -> None:
    await stack.embedder_server.stop(None)
    refusal = await refused(stack.search.Search(SearchRequest(parent=SHOP, turns=[TEXT])))
    assert (refusal.code.name, refusal.reason) == ("UNAVAILABLE", "EMBEDDER_UNAVAILABLE")
    assert "start it" in refusal.message
    by_item = SearchRequest(parent=SHOP, turns=[Turn(reference=Reference(item_id="item-1"))])
    assert len((await stack.search.Search(by_item)).results) == 10


async def test_combiner_down_is_unavailable_and_plain_queries_still_work(sound: Stack) -> None:
    await sound.combiner_server.stop(None)
    composed = SearchRequest(parent=SHOP, turns=[Turn(reference=Reference(item_id="item-1"), text="x")])
    refusal = await refused(sound.search.Search(composed))
    assert (refusal.code.name, refusal.reason) == ("UNAVAILABLE", "COMBINER_UNAVAILABLE")


async def test_busy_embedder_says_when_to_try_again(sound: Stack) -> None:
    sound.embedder.refuse = ServiceError(errors_pb2.OVERLOADED, "the queue is full", retry_after=0.7)
    refusal = await refused(sound.search.Search(SearchRequest(parent=SHOP, turns=[TEXT])))
    assert (refusal.code.name, refusal.reason, refusal.retry_after) == (
        "RESOURCE_EXHAUSTED",
        "OVERLOADED",
        0.7,
    )
    sound.embedder.refuse = None


async def test_a_bug_of_the_embedder_is_not_ours(sound: Stack) -> None:
    async def broken(request: object, context: object) -> None:
        raise RuntimeError("bug")

    original, sound.embedder._check = sound.embedder._check, broken  # type: ignore[method-assign]
    refusal = await refused(sound.search.Search(SearchRequest(parent=SHOP, turns=[TEXT])))
    assert (refusal.code.name, refusal.reason) == ("UNAVAILABLE", "EMBEDDER_UNAVAILABLE")
    sound.embedder._check = original  # type: ignore[method-assign]


async def test_deadline_passes_through(sound: Stack) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await sound.search.Search(SearchRequest(parent=SHOP, turns=[TEXT]), timeout=0.001)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_every_page_token_is_answered(sound: Stack) -> None:
    for token in ("AAAA", "====", "\u00e9", "A" * 5000, "eyJ9", "AAAAAAAAAAAAAAAAAAAAAFsiIiwiMSJd"):
        request = SearchRequest(parent=SHOP, turns=[TEXT], page_token=token)
        assert (await refused(sound.search.Search(request))).reason == "PAGE_TOKEN_INVALID"


async def test_long_values_do_not_break_their_own_refusal(sound: Stack) -> None:
    for letter in ("x", "é", "🧥"):
        condition = Condition(match_any=MatchAny(field=letter * 20_000, values=[STRING]))
        refusal = await refused(sound.search.Search(where(condition)))
        assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", "UNKNOWN_FIELD")
        refusal = await refused(sound.search.Search(SearchRequest(parent=letter * 20_000, turns=[TEXT])))
        assert (refusal.code.name, refusal.field) == ("INVALID_ARGUMENT", "parent")
        combiner = SearchRequest(
            parent=SHOP,
            combiner=letter * 20_000,
            turns=[Turn(reference=Reference(item_id="item-1"), text="x")],
        )
        assert (await refused(sound.search.Search(combiner))).code.name == "NOT_FOUND"


# All but the one that ends the test.
METHODS = {
    method.name: getattr(module, method.input_type.name)
    for module, service in ((search_pb2, "SearchService"), (catalog_pb2, "CatalogService"))
    for method in module.DESCRIPTOR.services_by_name[service].methods
    if method.name != "DeleteCatalog"
}
PATHS = (
    "payload",
    "image",
    "payload.fields.price",
    "payload.fields.`a b`",
    "features",
    "",
    "payload.fields.",
)


@pytest.mark.slow
async def test_random_requests_are_answered_or_refused(stack: Stack) -> None:
    source = random.Random(20220619)
    codes: Counter[str] = Counter()
    for number in range(REQUESTS):
        # Searches have the most to go wrong, so every other request is one.
        name = "Search" if number % 2 else source.choice(list(METHODS))
        request = random_message(METHODS[name](), source)
        if "parent" in request.DESCRIPTOR.fields_by_name and source.random() < 0.8:
            request.parent = "catalogs/shop"
        if name == "BatchUpdateItems":
            request.update_mask.paths[:] = source.sample(PATHS, source.choice((0, 0, 1, 2)))
        method = getattr(stack.search if "Search" in name else stack.catalogs, name)
        call = method(request, timeout=30)
        code, said = await call.code(), await call.details()
        assert code not in FAULTS, (name, request, said)
        codes[code.name] += 1
    assert codes["OK"] > 0
    assert codes["INVALID_ARGUMENT"] > 0
    answer = await stack.search.Search(SearchRequest(parent="catalogs/shop", turns=[Turn(text="red")]))
    assert answer.results
