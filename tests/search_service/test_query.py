"""Turns folded into a query, as properties over generated dialogues; feedback of both methods."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models

from cir.vectors import normalize
from search_service.query import (
    ComposedQuery,
    Pair,
    TurnFeatures,
    TurnKind,
    Vector,
    answered,
    average_vector,
    fold,
    rocchio,
)

TURN_DIMENSION = 8
Dialogue = list[TurnFeatures]
NO_VECTORS = np.empty((0, TURN_DIMENSION), dtype=np.float32)


def vector(seed: int, length: float = 10.0) -> NDArray[np.float32]:
    raw = np.random.default_rng(seed).normal(size=TURN_DIMENSION)
    return (length * raw / np.linalg.norm(raw)).astype(np.float32)


async def add(pair: Pair) -> Vector:
    share = 0.5 if pair.text_weight is None else pair.text_weight
    return normalize(((1 - share) * pair.image + share * pair.text).astype(np.float32))


def turn_of(
    reference: Vector | None,
    text: Vector | None,
    liked: Vector = NO_VECTORS,
    disliked: Vector = NO_VECTORS,
    text_weight: float | None = None,
) -> TurnFeatures:
    if reference is not None:
        kind = TurnKind.REFERENCE_ONLY if text is None else TurnKind.COMPOSED
    else:
        kind = TurnKind.FEEDBACK_ONLY if text is None else TurnKind.CONTINUED
    return TurnFeatures(kind, reference, text, liked, disliked, text_weight)


def run(turns: Dialogue, image_length: float | None = None) -> ComposedQuery:
    return asyncio.run(answered(fold(start_of(turns), turns, image_length=image_length), add))


def pairs_of(turns: Dialogue, image_length: float | None = None) -> list[Pair]:
    seen: list[Pair] = []

    async def watch(pair: Pair) -> Vector:
        seen.append(pair)
        return await add(pair)

    asyncio.run(answered(fold(start_of(turns), turns, image_length=image_length), watch))
    return seen


def start_of(turns: Dialogue) -> Vector:
    start = turns[0].start
    assert start is not None
    return start


@st.composite
def turns(draw: st.DrawFn, *, first: bool) -> TurnFeatures:
    seed = st.integers(0, 2**32 - 1)
    has_reference = draw(st.booleans())
    has_text = draw(st.booleans()) or (first and not has_reference)
    feedback = [draw(st.lists(seed, max_size=3)) for _ in range(2)]
    liked, disliked = [
        np.stack([normalize(vector(s)) for s in seeds]) if seeds else NO_VECTORS for seeds in feedback
    ]
    reference = vector(draw(seed), draw(st.floats(0.5, 50))) if has_reference else None
    text = vector(draw(seed), draw(st.floats(0.5, 50))) if has_text else None
    if first and reference is None:
        return TurnFeatures(TurnKind.TEXT_ONLY, text, None, liked, disliked)
    return turn_of(reference, text, liked, disliked, draw(st.none() | st.floats(0, 1)))


@st.composite
def dialogues(draw: st.DrawFn) -> Dialogue:
    later = draw(st.lists(turns(first=False), max_size=4))
    return [draw(turns(first=True)), *later]


@given(dialogues())
def test_the_query_is_finite_and_of_length_one(dialogue: Dialogue) -> None:
    folded = run(dialogue)
    assert np.isfinite(folded.vector).all()
    assert np.linalg.norm(folded.vector) == pytest.approx(1, abs=1e-4)
    combined = [pair.turn for pair in pairs_of(dialogue)]
    assert combined == [number for number, turn in enumerate(dialogue) if turn.text is not None]


@given(dialogues(), turns(first=True))
def test_a_turn_with_a_reference_forgets_what_came_before(dialogue: Dialogue, last: TurnFeatures) -> None:
    fresh = turn_of(vector(1), last.text, last.liked, last.disliked, last.text_weight)
    np.testing.assert_array_equal(run([*dialogue, fresh]).vector, run([fresh]).vector)


@given(dialogues(), turns(first=False))
def test_a_turn_without_reference_continues_the_composed_query(
    dialogue: Dialogue, last: TurnFeatures
) -> None:
    before = run(dialogue)
    going_on = turn_of(None, vector(2), last.liked, last.disliked, 0.5)
    last_pair = pairs_of([*dialogue, going_on])[-1]
    np.testing.assert_allclose(normalize(last_pair.image), before.vector, atol=1e-5)


@given(st.floats(0.5, 50))
def test_a_continued_query_has_the_length_of_what_it_grew_from(length: float) -> None:
    dialogue = [turn_of(vector(1, length), vector(2)), turn_of(None, vector(3)), turn_of(None, vector(4))]
    for image_length in (None, 3.0):
        lengths = [float(np.linalg.norm(pair.image)) for pair in pairs_of(dialogue, image_length)]
        assert lengths == pytest.approx([length] * 3, rel=1e-3)


@given(st.floats(0.5, 50), st.floats(0.5, 50))
def test_what_began_with_a_text_goes_on_at_the_length_of_images(said: float, image_length: float) -> None:
    first = TurnFeatures(TurnKind.TEXT_ONLY, vector(1, said), None, NO_VECTORS, NO_VECTORS)
    dialogue = [first, turn_of(None, vector(2)), turn_of(None, None, liked=normalize(vector(5))[None])]
    dialogue.append(turn_of(None, vector(3)))
    for length in (image_length, None):
        lengths = [float(np.linalg.norm(pair.image)) for pair in pairs_of(dialogue, length)]
        assert lengths == pytest.approx([length or said] * 2, rel=1e-3)
    np.testing.assert_array_equal(run([first], image_length).vector, run([first]).vector)


@given(dialogues())
def test_the_parts_of_the_query_are_those_of_the_last_turn_that_has_any(dialogue: Dialogue) -> None:
    folded = run(dialogue, 4.0)
    turn = next(each for each in reversed(dialogue) if each.kind is not TurnKind.FEEDBACK_ONLY)
    match turn.kind:
        case TurnKind.TEXT_ONLY:
            assert folded.image is None
            assert folded.text is turn.start
        case TurnKind.REFERENCE_ONLY:
            assert folded.image is turn.start
            assert folded.text is None
        case _:
            last_pair = pairs_of(dialogue, 4.0)[-1]
            assert folded.text is turn.text
            assert folded.image is not None
            np.testing.assert_array_equal(folded.image, last_pair.image)


@given(dialogues(), turns(first=True), st.integers(0, 4))
def test_editing_a_turn_equals_asking_anew(dialogue: Dialogue, other: TurnFeatures, place: int) -> None:
    place %= len(dialogue)
    edited = [*dialogue[:place], other, *dialogue[place + 1 :]]
    run(dialogue)
    np.testing.assert_array_equal(run(edited).vector, run(edited[:]).vector)
    # What came before the edit is taken as it was, and what comes after takes it from there.
    for ours, theirs in zip(pairs_of(edited), pairs_of(dialogue), strict=False):
        if ours.turn >= place or theirs.turn >= place:
            break
        np.testing.assert_array_equal(ours.image, theirs.image)
    later = [turn for turn in edited[place + 1 :] if turn.start is not None]
    if later:
        last = max(i for i, turn in enumerate(edited) if turn.start is not None)
        np.testing.assert_array_equal(run(edited).vector, run(dialogue).vector)
        np.testing.assert_array_equal(run(edited).vector, run(edited[last:]).vector)


@given(dialogues())
def test_features_that_are_handed_in_are_left_alone(dialogue: Dialogue) -> None:
    parts = [part for turn in dialogue for part in (turn.start, turn.text, turn.liked, turn.disliked)]
    before = [None if part is None else part.copy() for part in parts]
    run(dialogue)
    for part, copy in zip(parts, before, strict=True):
        np.testing.assert_array_equal(part, copy)


@given(st.integers(0, 10**6))
def test_a_text_alone_is_the_query(seed: int) -> None:
    text = vector(seed)
    composed = run([TurnFeatures(TurnKind.TEXT_ONLY, text, None, NO_VECTORS, NO_VECTORS)])
    np.testing.assert_array_equal(composed.vector, normalize(text))


NO_ITEMS = np.empty((0, 6), dtype=np.float32)


def vectors(seed: int, count: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    return np.stack([normalize(row) for row in rows]) if count else NO_ITEMS


@given(st.integers(0, 10**6), st.integers(1, 4))
def test_likes_bring_the_query_closer_and_dislikes_push_it_away(seed: int, count: int) -> None:
    query, items = vectors(seed, 1)[0], vectors(seed + 1, count)
    mean = items.mean(axis=0)
    towards = rocchio(query, liked=items, disliked=NO_ITEMS)
    away = rocchio(query, liked=NO_ITEMS, disliked=items)
    assert towards @ mean >= query @ mean - 1e-5
    assert away @ mean <= query @ mean + 1e-5
    assert np.linalg.norm(towards) == pytest.approx(1, abs=1e-5)


def test_no_feedback_leaves_the_query_alone() -> None:
    query = vectors(3, 1)[0]
    assert rocchio(query, liked=NO_ITEMS, disliked=NO_ITEMS) is query


def test_weights_are_the_documented_ones() -> None:
    query, liked, disliked = vectors(1, 1)[0], vectors(2, 2), vectors(3, 3)
    expected = query + 0.75 * liked.mean(axis=0) - 0.15 * disliked.mean(axis=0)
    np.testing.assert_allclose(
        rocchio(query, liked=liked, disliked=disliked), expected / np.linalg.norm(expected), atol=1e-6
    )


@given(
    st.integers(0, 10**6), st.integers(0, 4), st.integers(0, 4), st.sampled_from([rocchio, average_vector])
)
def test_the_query_stays_finite_and_of_length_one(
    seed: int, liked: int, disliked: int, feedback: object
) -> None:
    query = vectors(seed, 1)[0]
    moved = feedback(query, liked=vectors(seed + 1, liked), disliked=vectors(seed + 2, disliked))  # type: ignore[operator]
    assert np.linalg.norm(moved) == pytest.approx(1, abs=1e-5)
    if not liked and not disliked:
        assert moved is query


@pytest.mark.parametrize("feedback", [rocchio, average_vector])
def test_feedback_that_would_cancel_the_query_leaves_it(feedback: object) -> None:
    query = vectors(1, 1)[0]
    opposite = -query[None, :]
    liked = np.repeat(opposite, 4, axis=0) if feedback is rocchio else opposite
    moved = feedback(query, liked=liked, disliked=NO_ITEMS)  # type: ignore[operator]
    assert np.isfinite(moved).all()
    if feedback is average_vector:  # the mean of a vector and its opposite
        assert moved is query


@pytest.mark.filterwarnings("ignore:Local mode")
@pytest.mark.parametrize(("liked", "disliked"), [(0, 0), (2, 0), (0, 3), (1, 1), (3, 2)])
def test_recommending_means_what_the_engine_means(liked: int, disliked: int) -> None:
    client = QdrantClient(":memory:")
    config = models.VectorParams(size=6, distance=models.Distance.COSINE)
    client.create_collection("items", vectors_config=config)
    items = vectors(5, 60)
    client.upsert(
        "items", [models.PointStruct(id=number, vector=row.tolist()) for number, row in enumerate(items)]
    )
    query, likes, dislikes = vectors(6, 1)[0], vectors(7, liked), vectors(8, disliked)
    recommend = models.RecommendInput(
        positive=[query.tolist(), *likes.tolist()],
        negative=dislikes.tolist(),
        strategy=models.RecommendStrategy.AVERAGE_VECTOR,
    )
    theirs = client.query_points("items", query=models.RecommendQuery(recommend=recommend), limit=60).points
    ours = items @ average_vector(query, liked=likes, disliked=dislikes)
    assert [point.id for point in theirs] == np.argsort(-ours, kind="stable").tolist()
    np.testing.assert_allclose([point.score for point in theirs], np.sort(ours)[::-1], atol=1e-5)
    client.close()
