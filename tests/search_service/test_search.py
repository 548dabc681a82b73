"""Searches and dialogues over gRPC: results, work that is not done twice, and pages of one ranking."""

from __future__ import annotations

import asyncio
import random

import numpy as np
import pytest
from numpy.typing import NDArray

from cir.common.v1 import payload_pb2
from cir.limits import DEFAULT_COMBINER
from cir.search.v1 import filter_pb2, search_pb2
from cir.search.v1.search_pb2 import Reference, SearchRequest, SearchResponse, Turn
from cir.vectors import normalize, pack, unpack
from search_service.query import Pair, TurnFeatures, TurnKind, answered, average_vector, fold, rocchio
from tests.refused import refused
from tests.search_service.conftest import Stack, publish
from tests.search_service.neighbours import CONTEXT, FINGERPRINT, features_of
from vector_store import open_store

pytestmark = pytest.mark.service

SHOP = "catalogs/shop"


def ids(answer: search_pb2.SearchResponse) -> list[str]:
    return [result.item.id for result in answer.results]


def picture(number: int) -> bytes:
    return f"picture {number}".encode()


def expected_order(query: np.ndarray, *, without: tuple[int, ...] = ()) -> list[str]:
    scores = {
        n: float(normalize(query) @ normalize(features_of(picture(n)))) for n in range(40) if n not in without
    }
    return [f"item-{n}" for n in sorted(scores, key=lambda n: -scores[n])]


async def test_image_alone_finds_itself_and_needs_no_combiner(stack: Stack) -> None:
    turn = Turn(reference=Reference(image=picture(7)))
    answer = await stack.search.Search(SearchRequest(parent=SHOP, turns=[turn], page_size=5))
    assert ids(answer) == expected_order(features_of(picture(7)))[:5]
    assert answer.results[0].item.id == "item-7"
    assert answer.results[0].score == pytest.approx(1, abs=1e-5)
    assert [result.rank for result in answer.results] == [1, 2, 3, 4, 5]
    assert stack.combiner.calls == []
    assert answer.explanation.turns[0].kind == search_pb2.TURN_KIND_REFERENCE_ONLY
    assert answer.explanation.combiner == ""


async def test_text_alone_needs_no_combiner(stack: Stack) -> None:
    answer = await stack.search.Search(SearchRequest(parent=SHOP, turns=[Turn(text="red")], page_size=4))
    assert ids(answer) == expected_order(features_of("red"))[:4]
    assert stack.combiner.calls == []
    assert answer.explanation.turns[0].kind == search_pb2.TURN_KIND_TEXT_ONLY


async def test_item_reference_is_not_encoded_again_and_is_left_out(stack: Stack) -> None:
    turn = Turn(reference=Reference(item_id="item-3"))
    answer = await stack.search.Search(SearchRequest(parent=SHOP, turns=[turn], page_size=40))
    assert ids(answer) == expected_order(features_of(picture(3)), without=(3,))
    assert stack.embedder.images == 0
    kept = await stack.search.Search(
        SearchRequest(parent=SHOP, turns=[turn], exclude_references=False, page_size=1)
    )
    assert ids(kept) == ["item-3"]


async def test_composed_query_gives_the_combiner_raw_features(stack: Stack) -> None:
    turn = Turn(reference=Reference(item_id="item-3"), text="with stripes")
    answer = await stack.search.Search(
        SearchRequest(parent=SHOP, turns=[turn], page_size=6, with_query_vector=True)
    )
    mixed = features_of(picture(3)) + features_of("with stripes")
    assert ids(answer) == expected_order(mixed, without=(3,))[:6]
    (call,) = stack.combiner.calls
    np.testing.assert_allclose(unpack(call.image_features)[0], features_of(picture(3)), atol=1e-4)
    assert answer.explanation.combiner == DEFAULT_COMBINER
    assert not answer.explanation.turns[0].HasField("network_lambda")
    np.testing.assert_allclose(unpack(answer.query_vector)[0], normalize(mixed), atol=1e-5)


async def test_features_reference_equals_image_reference(stack: Stack) -> None:
    features = pack(features_of(picture(9))[None, :], fingerprint=FINGERPRINT)
    by_features, by_image = [
        await stack.search.Search(SearchRequest(parent=SHOP, turns=[Turn(reference=reference, text="x")]))
        for reference in (Reference(features=features), Reference(image=picture(9)))
    ]
    assert ids(by_features) == ids(by_image)


async def test_second_turn_continues_the_composed_query(stack: Stack) -> None:
    turns = [Turn(reference=Reference(item_id="item-3"), text="with stripes"), Turn(text="in red")]
    answer = await stack.search.Search(SearchRequest(parent=SHOP, turns=turns, page_size=6))
    first = normalize(features_of(picture(3)) + features_of("with stripes"))
    second = first * 10 + features_of("in red")
    assert ids(answer) == expected_order(second, without=(3,))[:6]
    assert [turn.kind for turn in answer.explanation.turns] == [
        search_pb2.TURN_KIND_COMPOSED,
        search_pb2.TURN_KIND_CONTINUED,
    ]
    assert stack.embedder.texts == 2


async def test_a_text_that_was_not_read_whole_is_told(stack: Stack) -> None:
    long = "stripes " * CONTEXT
    turns = [
        Turn(reference=Reference(item_id="item-3"), text="with stripes"),
        Turn(text=long),
        Turn(text="in red"),
        Turn(text=long),
    ]
    for _ in range(2):  # the second time its features are remembered
        answer = await stack.search.Search(SearchRequest(parent=SHOP, turns=turns, page_size=6))
        said = [(turn.text_tokens, turn.read_tokens) for turn in answer.explanation.turns]
        assert said == [(0, 0), (len(long), CONTEXT), (0, 0), (len(long), CONTEXT)]


async def test_feedback_moves_the_query_and_disliked_items_are_left_out(stack: Stack) -> None:
    turn = Turn(text="red", liked_item_ids=["item-5"], disliked_item_ids=["item-6"])
    answer = await stack.search.Search(SearchRequest(parent=SHOP, turns=[turn], page_size=40))
    moved = (
        normalize(features_of("red"))
        + 0.75 * normalize(features_of(picture(5)))
        - 0.15 * normalize(features_of(picture(6)))
    )
    assert ids(answer) == expected_order(moved, without=(6,))


async def test_filter_lets_only_its_items_pass(stack: Stack) -> None:
    condition = filter_pb2.Condition(
        match_any=filter_pb2.MatchAny(field="colour", values=[payload_pb2.Value(string_value="red")])
    )
    answer = await stack.search.Search(
        SearchRequest(
            parent=SHOP,
            turns=[Turn(text="anything")],
            filter=filter_pb2.Filter(must=[condition]),
            page_size=40,
        )
    )
    assert len(answer.results) == 14
    assert {result.item.payload.fields["colour"].string_value for result in answer.results} == {"red"}
    first = answer.results[0].item.payload.fields
    assert first["price"].WhichOneof("kind") == "integer_value"
    assert first["weight"].WhichOneof("kind") == "float_value"
    assert first["added"].WhichOneof("kind") == "datetime_value"


async def test_pages_are_the_ranking_in_pieces(stack: Stack) -> None:
    request = SearchRequest(parent=SHOP, turns=[Turn(text="red")], page_size=7)
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
    request = SearchRequest(parent=SHOP, turns=[Turn(text="red")], page_size=20)
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
    before = await stack.search.Search(SearchRequest(parent=SHOP, turns=[Turn(text="red")]))
    store = open_store(stack.store_url)
    await publish(store, "shop", 5, first=100)
    await store.close()
    pinned = await stack.search.Search(
        SearchRequest(parent=SHOP, turns=[Turn(text="red")], pinned_version=before.explanation.version)
    )
    assert ids(pinned) == ids(before)


async def test_timings_name_the_stages_that_happened(stack: Stack) -> None:
    turn = Turn(reference=Reference(image=picture(1)), text="red")
    timings = (await stack.search.Search(SearchRequest(parent=SHOP, turns=[turn]))).timings
    assert {field.name for field, _ in timings.ListFields()} == {
        "embed_texts",
        "embed_images",
        "combine",
        "store",
        "total",
    }


async def test_request_id_travels_to_the_embedder_and_back(stack: Stack) -> None:
    call = stack.search.Search(
        SearchRequest(parent=SHOP, turns=[Turn(text="red")]), metadata=(("x-request-id", "abc-1"),)
    )
    await call
    assert stack.embedder.request_ids == ["abc-1"]
    assert dict(await call.trailing_metadata())["x-request-id"] == "abc-1"


async def test_info_tells_limits_and_dependencies(stack: Stack) -> None:
    info = await stack.search.GetSearchInfo(search_pb2.GetSearchInfoRequest())
    assert dict(info.dependencies) == {"embedder": "ok", "combiner": "ok", "store": "ok"}
    assert list(info.combiners) == [DEFAULT_COMBINER, "joint/fake"]
    assert info.limits.max_turns == 16
    await stack.embedder_server.stop(None)
    info = await stack.search.GetSearchInfo(search_pb2.GetSearchInfoRequest())
    assert "embedder at 127.0.0.1" in info.dependencies["embedder"]
    assert not info.HasField("model")


METHODS = {search_pb2.FEEDBACK_METHOD_ROCCHIO: rocchio, search_pb2.FEEDBACK_METHOD_RECOMMEND: average_vector}


def features_of_item(item_id: str) -> NDArray[np.float32]:
    return features_of(f"picture {item_id.removeprefix('item-')}")


def random_turn(source: random.Random, *, first: bool) -> Turn:
    turn = Turn()
    if first or source.random() < 0.3:
        number = source.randrange(40)
        if source.random() < 0.5:
            turn.reference.item_id = f"item-{number}"
        else:
            turn.reference.image = f"picture {number}".encode()
    if not turn.HasField("reference") or source.random() < 0.5:
        turn.text = source.choice(["red", "with stripes", "longer", "in wool"])
    for liked in (turn.liked_item_ids, turn.disliked_item_ids):
        liked.extend(f"item-{number}" for number in source.sample(range(40), source.choice((0, 0, 1, 2))))
    return turn


def expected_query(turns: list[Turn], feedback: int) -> NDArray[np.float32]:
    """The composed query of a dialogue, from the contents of its turns alone."""

    async def add(pair: Pair) -> NDArray[np.float32]:
        return normalize(pair.image + pair.text)

    def units(ids: object) -> NDArray[np.float32]:
        rows = [normalize(features_of_item(item_id)) for item_id in ids]  # type: ignore[attr-defined]
        return np.stack(rows) if rows else np.empty((0, 16), np.float32)

    def reference(turn: Turn) -> NDArray[np.float32] | None:
        if not turn.HasField("reference"):
            return None
        return (
            features_of_item(turn.reference.item_id)
            if turn.reference.item_id
            else features_of(turn.reference.image)
        )

    def features(turn: Turn, *, first: bool) -> TurnFeatures:
        start = reference(turn)
        text = features_of(turn.text) if turn.text else None
        liked, disliked = units(turn.liked_item_ids), units(turn.disliked_item_ids)
        if first and start is None:
            return TurnFeatures(TurnKind.TEXT_ONLY, text, None, liked, disliked)
        kind = TurnKind.CONTINUED if start is None else TurnKind.COMPOSED
        return TurnFeatures(kind, start, text, liked, disliked)

    folded = [features(turn, first=number == 0) for number, turn in enumerate(turns)]
    start = folded[0].start
    assert start is not None
    folding = fold(
        start,
        folded,
        METHODS[feedback or search_pb2.FEEDBACK_METHOD_ROCCHIO],  # type: ignore[index]
        image_length=10.0,
    )
    coroutine = answered(folding, add)
    try:
        coroutine.send(None)
    except StopIteration as ended:
        query: NDArray[np.float32] = ended.value.vector
        return query
    raise AssertionError("folding waits for nothing here")


async def ask(stack: Stack, turns: list[Turn], feedback: int) -> SearchResponse:
    return await stack.search.Search(
        SearchRequest(
            parent=SHOP,
            turns=turns,
            page_size=8,
            with_query_vector=True,
            feedback=feedback,  # type: ignore[arg-type]
        )
    )


def same(first: SearchResponse, second: SearchResponse) -> bool:
    return (
        first.results == second.results
        and first.query_vector == second.query_vector
        and first.next_page_token == second.next_page_token
        and first.explanation == second.explanation
    )


async def test_editing_an_earlier_turn_equals_asking_anew(stack: Stack) -> None:
    for seed in range(4):
        await edit_turns(stack, random.Random(seed))


async def edit_turns(stack: Stack, source: random.Random) -> None:
    feedback = source.choice([search_pb2.FEEDBACK_METHOD_ROCCHIO, search_pb2.FEEDBACK_METHOD_RECOMMEND])
    turns = [random_turn(source, first=number == 0) for number in range(5)]
    for length in range(1, 6):  # as a dialogue grows
        answer = await ask(stack, turns[:length], feedback)
        np.testing.assert_allclose(
            unpack(answer.query_vector)[0], expected_query(turns[:length], feedback), atol=2e-5
        )
    for place in range(5):
        edited = [*turns]
        edited[place] = random_turn(source, first=place == 0)
        later, other = await asyncio.gather(ask(stack, edited, feedback), ask(stack, turns, feedback))
        np.testing.assert_allclose(unpack(later.query_vector)[0], expected_query(edited, feedback), atol=2e-5)
        assert same(await ask(stack, edited, feedback), later)
        assert same(await ask(stack, turns, feedback), other)


async def test_a_turn_without_reference_goes_on_from_the_composed_query(stack: Stack) -> None:
    for seed in range(4):
        await go_on(stack, random.Random(100 + seed))


async def go_on(stack: Stack, source: random.Random) -> None:
    turns = [random_turn(source, first=number == 0) for number in range(3)]
    before = await ask(stack, turns, search_pb2.FEEDBACK_METHOD_ROCCHIO)
    stack.combiner.calls.clear()
    after = await ask(stack, [*turns, Turn(text="in blue")], search_pb2.FEEDBACK_METHOD_ROCCHIO)
    assert after.explanation.turns[-1].kind == search_pb2.TURN_KIND_CONTINUED
    assert list(after.explanation.turns)[:-1] == list(before.explanation.turns)
    image = unpack(stack.combiner.calls[-1].image_features)[0]
    np.testing.assert_allclose(normalize(image), unpack(before.query_vector)[0], atol=2e-5)


async def ranking_in_pages(stack: Stack, version: str, sizes: list[int]) -> list[tuple[str, float, int]]:
    request = SearchRequest(parent=SHOP, turns=[Turn(text="red")], pinned_version=version)
    seen: list[tuple[str, float, int]] = []
    for size in sizes:
        request.page_size = size
        answer = await stack.search.Search(request)
        seen += [(result.item.id, result.score, result.rank) for result in answer.results]
        request.page_token = answer.next_page_token
    return seen


async def test_pinned_pages_are_the_same_whatever_is_published_meanwhile(stack: Stack) -> None:
    first = await stack.search.Search(SearchRequest(parent=SHOP, turns=[Turn(text="red")]))
    version = first.explanation.version
    before = await ranking_in_pages(stack, version, [5, 7, 3, 25])
    assert len({item_id for item_id, _, _ in before}) == 40
    store = open_store(stack.store_url)
    for _ in range(2):
        await publish(store, "shop", 12, first=20)
    await store.close()
    assert await ranking_in_pages(stack, version, [5, 7, 3, 25]) == before
    assert await ranking_in_pages(stack, version, [20, 20]) == before


async def test_a_token_of_a_version_that_is_gone_is_refused(stack: Stack) -> None:
    request = SearchRequest(parent=SHOP, turns=[Turn(text="red")], page_size=5)
    first = await stack.search.Search(request)
    store = open_store(stack.store_url)
    await publish(store, "shop", 12, first=20)
    fresh = await stack.search.Search(request)
    await store.delete_version("shop", first.explanation.version.rpartition("/")[2])
    await store.close()
    request.page_token = first.next_page_token
    refusal = await refused(stack.search.Search(request))
    assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")
    request.page_token = fresh.next_page_token
    assert (await stack.search.Search(request)).results[0].rank == 6


async def test_the_answer_tells_how_feedback_moved_the_query(stack: Stack) -> None:
    plain = await ask(stack, [Turn(text="red")], search_pb2.FEEDBACK_METHOD_RECOMMEND)
    assert plain.explanation.feedback == search_pb2.FEEDBACK_METHOD_UNSPECIFIED
    turn = Turn(text="red", liked_item_ids=["item-5"], disliked_item_ids=["item-6"])
    by_default = await ask(stack, [turn], search_pb2.FEEDBACK_METHOD_UNSPECIFIED)
    assert by_default.explanation.feedback == search_pb2.FEEDBACK_METHOD_ROCCHIO
    assert (
        by_default.query_vector == (await ask(stack, [turn], search_pb2.FEEDBACK_METHOD_ROCCHIO)).query_vector
    )
    recommended = await ask(stack, [turn], search_pb2.FEEDBACK_METHOD_RECOMMEND)
    assert recommended.explanation.feedback == search_pb2.FEEDBACK_METHOD_RECOMMEND
    positive = (normalize(features_of("red")) + normalize(features_of_item("item-5"))) / 2
    np.testing.assert_allclose(
        unpack(recommended.query_vector)[0],
        normalize(2 * positive - normalize(features_of_item("item-6"))),
        atol=1e-5,
    )
    refusal = await refused(ask(stack, [turn], 77))
    assert (refusal.reason, refusal.field) == ("FIELD_INVALID", "feedback")
