"""Turn folding, as properties over generated dialogues."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from search_service.turns import Folded, Turn, TurnKind, fold, kind_of, unit

DIMENSION = 8
NONE = np.empty((0, DIMENSION), dtype=np.float32)


def vector(seed: int, length: float = 10.0) -> NDArray[np.float32]:
    raw = np.random.default_rng(seed).normal(size=DIMENSION)
    return (length * raw / np.linalg.norm(raw)).astype(np.float32)


async def add(
    image: NDArray[np.float32], text: NDArray[np.float32], weight: float | None
) -> tuple[NDArray[np.float32], float]:
    share = 0.5 if weight is None else weight
    return unit(((1 - share) * image + share * text).astype(np.float32)), share


def run(turns: list[Turn]) -> Folded:
    return asyncio.run(fold(turns, add))


@st.composite
def turns(draw: st.DrawFn, *, first: bool) -> Turn:
    seed = st.integers(0, 2**32 - 1)
    has_reference = draw(st.booleans())
    has_text = draw(st.booleans()) or (first and not has_reference)
    feedback = [draw(st.lists(seed, max_size=3)) for _ in range(2)]
    liked, disliked = [np.stack([unit(vector(s)) for s in seeds]) if seeds else NONE for seeds in feedback]
    return Turn(
        reference=vector(draw(seed), draw(st.floats(0.5, 50))) if has_reference else None,
        text=vector(draw(seed), draw(st.floats(0.5, 50))) if has_text else None,
        liked=liked,
        disliked=disliked,
        text_weight=draw(st.none() | st.floats(0, 1)),
    )


@st.composite
def dialogues(draw: st.DrawFn) -> list[Turn]:
    later = draw(st.lists(turns(first=False), max_size=4))
    return [draw(turns(first=True)), *later]


@given(dialogues())
def test_the_query_is_finite_and_of_length_one(dialogue: list[Turn]) -> None:
    folded = run(dialogue)
    assert np.isfinite(folded.query).all()
    assert np.linalg.norm(folded.query) == pytest.approx(1, abs=1e-4)
    assert len(folded.turns) == len(dialogue)
    assert all(0 <= turn.text_weight <= 1 for turn in folded.turns)


@given(dialogues(), turns(first=True))
def test_a_turn_with_a_reference_forgets_what_came_before(dialogue: list[Turn], last: Turn) -> None:
    fresh = Turn(vector(1), last.text, last.liked, last.disliked, last.text_weight)
    np.testing.assert_array_equal(run([*dialogue, fresh]).query, run([fresh]).query)


@given(dialogues(), turns(first=False))
def test_a_turn_without_reference_continues_the_composed_query(dialogue: list[Turn], last: Turn) -> None:
    before = run(dialogue)
    going_on = Turn(None, vector(2), last.liked, last.disliked, 0.5)
    seen: list[NDArray[np.float32]] = []

    async def watch(image: NDArray[np.float32], text: NDArray[np.float32], weight: float | None) -> Any:
        seen.append(image)
        return await add(image, text, weight)

    asyncio.run(fold([*dialogue, going_on], watch))
    np.testing.assert_allclose(unit(seen[-1]), before.query, atol=1e-5)


@given(st.floats(0.5, 50))
def test_a_continued_query_has_the_length_of_what_it_grew_from(length: float) -> None:
    seen: list[float] = []

    async def watch(image: NDArray[np.float32], text: NDArray[np.float32], weight: float | None) -> Any:
        seen.append(float(np.linalg.norm(image)))
        return await add(image, text, weight)

    first = Turn(vector(1, length), vector(2), NONE, NONE)
    asyncio.run(fold([first, Turn(None, vector(3), NONE, NONE), Turn(None, vector(4), NONE, NONE)], watch))
    assert seen == pytest.approx([length] * 3, rel=1e-3)


@given(dialogues(), turns(first=True), st.integers(0, 4))
def test_editing_a_turn_equals_asking_anew(dialogue: list[Turn], other: Turn, place: int) -> None:
    place %= len(dialogue)
    edited = [*dialogue[:place], other, *dialogue[place + 1 :]]
    run(dialogue)
    np.testing.assert_array_equal(run(edited).query, run(edited[:]).query)
    # What came before the edit is taken as it was, and what comes after takes it from there.
    assert run(edited).turns[:place] == run(dialogue).turns[:place]
    later = [turn for turn in edited[place + 1 :] if turn.reference is not None]
    if later:
        last = max(i for i, turn in enumerate(edited) if turn.reference is not None)
        np.testing.assert_array_equal(run(edited).query, run(dialogue).query)
        np.testing.assert_array_equal(run(edited).query, run(edited[last:]).query)


@given(dialogues())
def test_features_that_are_handed_in_are_left_alone(dialogue: list[Turn]) -> None:
    parts = [part for turn in dialogue for part in (turn.reference, turn.text, turn.liked, turn.disliked)]
    before = [None if part is None else part.copy() for part in parts]
    run(dialogue)
    for part, copy in zip(parts, before, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_kinds() -> None:
    assert kind_of(first=True, has_reference=False, has_text=False) is None
    assert kind_of(first=True, has_reference=False, has_text=True) is TurnKind.TEXT_ONLY
    assert kind_of(first=False, has_reference=False, has_text=True) is TurnKind.CONTINUED
    assert kind_of(first=False, has_reference=False, has_text=False) is TurnKind.FEEDBACK_ONLY
    assert kind_of(first=False, has_reference=True, has_text=True) is TurnKind.COMPOSED
    assert kind_of(first=True, has_reference=True, has_text=False) is TurnKind.REFERENCE_ONLY


@pytest.mark.parametrize("dialogue", [[], [Turn(None, None, NONE, NONE)]])
def test_nothing_to_start_from_is_an_error(dialogue: list[Turn]) -> None:
    with pytest.raises(ValueError, match=r"turns|first turn"):
        run(dialogue)
