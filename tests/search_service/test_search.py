"""Searches over gRPC: what is found, and what is not asked for twice."""

from __future__ import annotations

import numpy as np
import pytest

from cir.common.v1 import payload_pb2
from cir.search.v1 import filter_pb2, search_pb2
from cir.search.v1.search_pb2 import Reference, SearchRequest, Turn
from cir.vectors import pack, unpack
from search_service.turns import unit
from tests.search_service.conftest import Stack, publish
from tests.search_service.neighbours import FINGERPRINT, features_of
from vector_store import open_store

SHOP = "catalogs/shop"


def ids(answer: search_pb2.SearchResponse) -> list[str]:
    return [result.item.id for result in answer.results]


def picture(number: int) -> bytes:
    return f"picture {number}".encode()


def expected_order(query: np.ndarray, *, without: tuple[int, ...] = ()) -> list[str]:
    scores = {n: float(unit(query) @ unit(features_of(picture(n)))) for n in range(40) if n not in without}
    return [f"item-{n}" for n in sorted(scores, key=lambda n: -scores[n])]


async def test_image_alone_finds_itself_and_needs_no_combiner(stack: Stack) -> None:
    turn = Turn(reference=Reference(image=picture(7)))
    answer = await stack.search.Search(SearchRequest(catalog=SHOP, turns=[turn], limit=5))
    assert ids(answer) == expected_order(features_of(picture(7)))[:5]
    assert answer.results[0].item.id == "item-7"
    assert answer.results[0].score == pytest.approx(1, abs=1e-5)
    assert [result.rank for result in answer.results] == [1, 2, 3, 4, 5]
    assert stack.combiner.calls == []
    assert answer.explanation.turns[0].kind == search_pb2.REFERENCE_ONLY
    assert answer.explanation.combiner == ""


async def test_text_alone_needs_no_combiner(stack: Stack) -> None:
    answer = await stack.search.Search(SearchRequest(catalog=SHOP, turns=[Turn(text="red")], limit=4))
    assert ids(answer) == expected_order(features_of("red"))[:4]
    assert stack.combiner.calls == []
    assert answer.explanation.turns[0].kind == search_pb2.TEXT_ONLY
    assert answer.explanation.turns[0].text_weight == 1


async def test_item_reference_is_not_encoded_again_and_is_left_out(stack: Stack) -> None:
    turn = Turn(reference=Reference(item_id="item-3"))
    answer = await stack.search.Search(SearchRequest(catalog=SHOP, turns=[turn], limit=40))
    assert ids(answer) == expected_order(features_of(picture(3)), without=(3,))
    assert stack.embedder.images == 0
    kept = await stack.search.Search(
        SearchRequest(catalog=SHOP, turns=[turn], exclude_references=False, limit=1)
    )
    assert ids(kept) == ["item-3"]


async def test_composed_query_gives_the_combiner_raw_features(stack: Stack) -> None:
    turn = Turn(reference=Reference(item_id="item-3"), text="with stripes")
    answer = await stack.search.Search(
        SearchRequest(catalog=SHOP, turns=[turn], limit=6, with_query_vector=True)
    )
    mixed = features_of(picture(3)) + features_of("with stripes")
    assert ids(answer) == expected_order(mixed, without=(3,))[:6]
    (call,) = stack.combiner.calls
    np.testing.assert_allclose(unpack(call.image_features)[0], features_of(picture(3)), atol=1e-4)
    assert answer.explanation.combiner == "sum"
    assert answer.explanation.turns[0].text_weight == 0.5
    np.testing.assert_allclose(unpack(answer.query_vector)[0], unit(mixed), atol=1e-5)


async def test_features_reference_equals_image_reference(stack: Stack) -> None:
    features = pack(features_of(picture(9))[None, :], fingerprint=FINGERPRINT)
    by_features, by_image = [
        await stack.search.Search(SearchRequest(catalog=SHOP, turns=[Turn(reference=reference, text="x")]))
        for reference in (Reference(features=features), Reference(image=picture(9)))
    ]
    assert ids(by_features) == ids(by_image)


async def test_second_turn_continues_the_composed_query(stack: Stack) -> None:
    turns = [Turn(reference=Reference(item_id="item-3"), text="with stripes"), Turn(text="in red")]
    answer = await stack.search.Search(SearchRequest(catalog=SHOP, turns=turns, limit=6))
    first = unit(features_of(picture(3)) + features_of("with stripes"))
    second = first * 10 + features_of("in red")
    assert ids(answer) == expected_order(second, without=(3,))[:6]
    assert [turn.kind for turn in answer.explanation.turns] == [search_pb2.COMPOSED, search_pb2.CONTINUED]
    assert stack.embedder.texts == 2


async def test_feedback_moves_the_query_and_disliked_items_are_left_out(stack: Stack) -> None:
    turn = Turn(text="red", liked_item_ids=["item-5"], disliked_item_ids=["item-6"])
    answer = await stack.search.Search(SearchRequest(catalog=SHOP, turns=[turn], limit=40))
    moved = (
        unit(features_of("red")) + 0.75 * unit(features_of(picture(5))) - 0.15 * unit(features_of(picture(6)))
    )
    assert ids(answer) == expected_order(moved, without=(6,))


async def test_filter_lets_only_its_items_pass(stack: Stack) -> None:
    condition = filter_pb2.Condition(
        match_any=filter_pb2.MatchAny(field="colour", values=[payload_pb2.Value(string_value="red")])
    )
    answer = await stack.search.Search(
        SearchRequest(
            catalog=SHOP, turns=[Turn(text="anything")], filter=filter_pb2.Filter(must=[condition]), limit=40
        )
    )
    assert len(answer.results) == 14
    assert {result.item.payload.fields["colour"].string_value for result in answer.results} == {"red"}
    first = answer.results[0].item.payload.fields
    assert first["price"].WhichOneof("kind") == "integer_value"
    assert first["weight"].WhichOneof("kind") == "float_value"
    assert first["added"].WhichOneof("kind") == "datetime_value"


async def test_pages_are_the_ranking_in_pieces(stack: Stack) -> None:
    request = SearchRequest(catalog=SHOP, turns=[Turn(text="red")], limit=7)
    seen: list[str] = []
    while True:
        answer = await stack.search.Search(request)
        assert next(result.rank for result in answer.results) == len(seen) + 1
        seen += ids(answer)
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    assert seen == expected_order(features_of("red"))


async def test_pages_stay_on_their_version_while_another_is_published(stack: Stack) -> None:
    request = SearchRequest(catalog=SHOP, turns=[Turn(text="red")], limit=20)
    first = await stack.search.Search(request)
    store = open_store(stack.store_url)
    version = await publish(store, "shop", 5, first=100)
    await store.close()
    fresh = await stack.search.Search(request)
    assert fresh.explanation.version == f"catalogs/shop/versions/{version}"
    assert set(ids(fresh)) == {f"item-{n}" for n in range(100, 105)}
    request.page_token = first.next_page_token
    second = await stack.search.Search(request)
    assert ids(first) + ids(second) == expected_order(features_of("red"))
    assert second.explanation.version == first.explanation.version


async def test_pinned_version_is_searched(stack: Stack) -> None:
    before = await stack.search.Search(SearchRequest(catalog=SHOP, turns=[Turn(text="red")]))
    store = open_store(stack.store_url)
    await publish(store, "shop", 5, first=100)
    await store.close()
    pinned = await stack.search.Search(
        SearchRequest(catalog=SHOP, turns=[Turn(text="red")], pinned_version=before.explanation.version)
    )
    assert ids(pinned) == ids(before)


async def test_timings_name_the_stages_that_happened(stack: Stack) -> None:
    turn = Turn(reference=Reference(image=picture(1)), text="red")
    timings = (await stack.search.Search(SearchRequest(catalog=SHOP, turns=[turn]))).timings
    assert {field.name for field, _ in timings.ListFields()} == {
        "embed_texts",
        "embed_images",
        "combine",
        "store",
        "total",
    }


async def test_request_id_travels_to_the_embedder_and_back(stack: Stack) -> None:
    call = stack.search.Search(
        SearchRequest(catalog=SHOP, turns=[Turn(text="red")]), metadata=(("x-request-id", "abc-1"),)
    )
    await call
    assert stack.embedder.request_ids == ["abc-1"]
    assert dict(await call.trailing_metadata())["x-request-id"] == "abc-1"


async def test_info_tells_limits_and_dependencies(stack: Stack) -> None:
    info = await stack.search.GetSearchInfo(search_pb2.GetSearchInfoRequest())
    assert dict(info.dependencies) == {"embedder": "ok", "combiner": "ok", "store": "ok"}
    assert list(info.combiners) == ["sum"]
    assert info.limits.max_turns == 16
    await stack.embedder_server.stop(None)
    info = await stack.search.GetSearchInfo(search_pb2.GetSearchInfoRequest())
    assert "embedder at 127.0.0.1" in info.dependencies["embedder"]
    assert not info.HasField("model")
