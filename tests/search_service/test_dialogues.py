"""Dialogues over gRPC: the server keeps nothing of them, and what was found can be found again."""

from __future__ import annotations

import asyncio
import random

import numpy as np
from numpy.typing import NDArray

from cir.search.v1 import search_pb2
from cir.search.v1.search_pb2 import SearchRequest, SearchResponse, Turn
from cir.vectors import unpack
from search_service.feedback import average_vector, rocchio
from search_service.turns import Turn as FoldedTurn
from search_service.turns import fold, unit
from tests.refused import refused
from tests.search_service.conftest import Stack, publish
from tests.search_service.neighbours import features_of
from vector_store import open_store

SHOP = "catalogs/shop"
METHODS = {search_pb2.ROCCHIO: rocchio, search_pb2.RECOMMEND: average_vector}


def picture(item_id: str) -> NDArray[np.float32]:
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

    async def add(
        image: NDArray[np.float32], text: NDArray[np.float32], weight: float | None
    ) -> tuple[NDArray[np.float32], float]:
        return unit(image + text), 0.5

    def units(ids: object) -> NDArray[np.float32]:
        rows = [unit(picture(item_id)) for item_id in ids]  # type: ignore[attr-defined]
        return np.stack(rows) if rows else np.empty((0, 16), np.float32)

    def reference(turn: Turn) -> NDArray[np.float32] | None:
        if not turn.HasField("reference"):
            return None
        return (
            picture(turn.reference.item_id) if turn.reference.item_id else features_of(turn.reference.image)
        )

    folded = [
        FoldedTurn(
            reference(turn),
            features_of(turn.text) if turn.text else None,
            units(turn.liked_item_ids),
            units(turn.disliked_item_ids),
        )
        for turn in turns
    ]
    coroutine = fold(folded, add, METHODS[feedback or search_pb2.ROCCHIO])  # type: ignore[index]
    try:
        coroutine.send(None)
    except StopIteration as ended:
        query: NDArray[np.float32] = ended.value.query
        return query
    raise AssertionError("folding waits for nothing here")


async def ask(stack: Stack, turns: list[Turn], feedback: int) -> SearchResponse:
    return await stack.search.Search(
        SearchRequest(
            catalog=SHOP,
            turns=turns,
            limit=8,
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
    feedback = source.choice([search_pb2.ROCCHIO, search_pb2.RECOMMEND])
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
    before = await ask(stack, turns, search_pb2.ROCCHIO)
    stack.combiner.calls.clear()
    after = await ask(stack, [*turns, Turn(text="in blue")], search_pb2.ROCCHIO)
    assert after.explanation.turns[-1].kind == search_pb2.CONTINUED
    assert list(after.explanation.turns)[:-1] == list(before.explanation.turns)
    image = unpack(stack.combiner.calls[-1].image_features)[0]
    np.testing.assert_allclose(unit(image), unpack(before.query_vector)[0], atol=2e-5)


async def pages(stack: Stack, version: str, limits: list[int]) -> list[tuple[str, float, int]]:
    request = SearchRequest(catalog=SHOP, turns=[Turn(text="red")], pinned_version=version)
    seen: list[tuple[str, float, int]] = []
    for limit in limits:
        request.limit = limit
        answer = await stack.search.Search(request)
        seen += [(result.item.id, result.score, result.rank) for result in answer.results]
        request.page_token = answer.next_page_token
    return seen


async def test_pinned_pages_are_the_same_whatever_is_published_meanwhile(stack: Stack) -> None:
    first = await stack.search.Search(SearchRequest(catalog=SHOP, turns=[Turn(text="red")]))
    version = first.explanation.version
    before = await pages(stack, version, [5, 7, 3, 25])
    assert len({item_id for item_id, _, _ in before}) == 40
    store = open_store(stack.store_url)
    for _ in range(2):
        await publish(store, "shop", 12, first=20)
    await store.close()
    assert await pages(stack, version, [5, 7, 3, 25]) == before
    assert await pages(stack, version, [20, 20]) == before


async def test_a_token_of_a_version_that_is_gone_is_refused(stack: Stack) -> None:
    request = SearchRequest(catalog=SHOP, turns=[Turn(text="red")], limit=5)
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
    plain = await ask(stack, [Turn(text="red")], search_pb2.RECOMMEND)
    assert plain.explanation.feedback == search_pb2.FEEDBACK_METHOD_UNSPECIFIED
    turn = Turn(text="red", liked_item_ids=["item-5"], disliked_item_ids=["item-6"])
    by_default = await ask(stack, [turn], search_pb2.FEEDBACK_METHOD_UNSPECIFIED)
    assert by_default.explanation.feedback == search_pb2.ROCCHIO
    assert by_default.query_vector == (await ask(stack, [turn], search_pb2.ROCCHIO)).query_vector
    recommended = await ask(stack, [turn], search_pb2.RECOMMEND)
    assert recommended.explanation.feedback == search_pb2.RECOMMEND
    positive = (unit(features_of("red")) + unit(picture("item-5"))) / 2
    np.testing.assert_allclose(
        unpack(recommended.query_vector)[0], unit(2 * positive - unit(picture("item-6"))), atol=1e-5
    )
    refusal = await refused(ask(stack, [turn], 77))
    assert (refusal.reason, refusal.field) == ("FIELD_INVALID", "feedback")
