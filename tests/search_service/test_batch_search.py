"""Several queries in one call: the answers of single calls, embedded together, each failing alone."""

from __future__ import annotations

import pytest

from cir.common.v1 import errors_pb2 as errors
from cir.search.v1 import search_pb2 as pb
from cir.vectors import pack
from service_runtime.errors import ServiceError
from tests.refused import refused
from tests.search_service.conftest import Stack
from tests.search_service.neighbours import FINGERPRINT, UNREADABLE, features_of

pytestmark = pytest.mark.service

SHOP = "catalogs/shop"


def query(
    *, text: str = "", item: str = "", image: bytes = b"", catalog: str = SHOP, page_size: int = 5
) -> pb.SearchRequest:
    turn = pb.Turn(text=text)
    if item:
        turn.reference.item_id = item
    if image:
        turn.reference.image = image
    return pb.SearchRequest(parent=catalog, turns=[turn], page_size=page_size)


async def batch(stack: Stack, *queries: pb.SearchRequest) -> list[pb.BatchSearchOutcome]:
    return list((await stack.search.BatchSearch(pb.BatchSearchRequest(requests=queries))).outcomes)


def without_timings(response: pb.SearchResponse) -> pb.SearchResponse:
    response.ClearField("timings")
    return response


async def test_a_batch_answers_what_single_calls_do_in_fewer_embeddings(stack: Stack) -> None:
    queries = [
        *(query(text=f"text {number % 4}") for number in range(12)),
        *(query(image=b"picture %d" % (number % 3), text="longer") for number in range(6)),
        query(item="item-3", text="in red"),
        query(item="item-5", page_size=2),
    ]
    outcomes = await batch(stack, *queries)
    # One call for all texts and one for all images, each of them once.
    assert (stack.embedder.texts, stack.embedder.images, len(stack.embedder.request_ids)) == (6, 3, 2)
    for asked, outcome in zip(queries, outcomes, strict=True):
        single = await stack.search.Search(asked)
        assert outcome.response.timings.HasField("total")
        assert without_timings(outcome.response) == without_timings(single)
    # A token goes on in single calls.
    first, more = outcomes[-1].response, query(item="item-5", page_size=2)
    more.page_token = first.next_page_token
    second = await stack.search.Search(more)
    assert [result.rank for result in (*first.results, *second.results)] == [1, 2, 3, 4]


async def test_queries_fail_alone(stack: Stack) -> None:
    wrong = pack(features_of("x")[None, :], fingerprint="other")
    other_model = pb.SearchRequest(
        parent=SHOP, turns=[pb.Turn(reference=pb.Reference(features=wrong))], page_size=5
    )
    outcomes = await batch(
        stack,
        query(text="good"),
        query(text="good", page_size=-1),
        query(text="good", catalog="catalogs/none"),
        query(image=UNREADABLE),
        query(item="nobody"),
        query(image=b"picture", text="good"),
        query(),
        other_model,
    )
    found = [
        errors.ErrorReason.Name(outcome.error.reason) if outcome.HasField("error") else ""
        for outcome in outcomes
    ]
    assert found == [
        *("", "OUT_OF_RANGE", "CATALOG_NOT_FOUND", "IMAGE_UNREADABLE", "ITEM_NOT_FOUND", ""),
        *("FIELD_REQUIRED", "FINGERPRINT_MISMATCH"),
    ]
    assert [outcome.error.index for outcome in outcomes if outcome.HasField("error")] == [1, 2, 3, 4, 6, 7]
    assert "turns[0].reference.image" in outcomes[3].error.message


async def test_an_embedder_that_is_away_fails_the_queries_that_need_it(stack: Stack) -> None:
    stack.embedder.refuse = ServiceError(errors.NOT_READY, "starting")
    outcomes = await batch(stack, query(text="good"), query(item="item-1"), query(image=b"x", text="y"))
    assert [outcome.WhichOneof("outcome") for outcome in outcomes] == ["error", "response", "error"]
    assert outcomes[0].error.reason == errors.EMBEDDER_UNAVAILABLE


async def test_batches_have_a_size(stack: Stack) -> None:
    assert (await refused(batch(stack))).reason == "FIELD_REQUIRED"
    refusal = await refused(batch(stack, *[query(item="item-1")] * 65))
    assert (refusal.reason, refusal.field) == ("TOO_MANY_ITEMS", "requests")
    info = await stack.search.GetSearchInfo(pb.GetSearchInfoRequest())
    assert info.limits.max_batch_queries == 64
    assert info.model.fingerprint == FINGERPRINT
