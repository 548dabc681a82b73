"""Texts state the attributes that they are said to state, and are true of images by them. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from garments.language import captions
from garments.vocabulary import BASE, KINDS, VALUES, combinations
from scripts.small_clip.labels import KIND_OF_LABEL
from scripts.small_clip.texts import photo_text, text_of, told_by
from scripts.small_clip.truth import NAMES, UNKNOWN, WORDS, compared, numbered

GARMENTS = [garment for kind in KINDS for garment in combinations(kind)]
SOME = st.sampled_from(GARMENTS).flatmap(
    lambda garment: st.sets(st.sampled_from(list(garment))).map(
        lambda names: {name: garment[name] for name in names}
    )
)


@pytest.mark.parametrize(
    ("caption", "told"),
    [
        ("a short sleeveless red plain dress", {"sleeve", "length"}),
        ("a red plain dress with long sleeves", {"sleeve"}),
        ("a long red plain dress with no sleeves", {"sleeve", "length"}),
        ("a longer red plain dress", {"length"}),
        ("a red plain dress", set()),
        ("a long-sleeved red plain dress", {"sleeve"}),
        ("a red plain dress without sleeves", {"sleeve"}),
    ],
)
def test_finer_attributes_are_told_by_their_words(caption: str, told: set[str]) -> None:
    garment = {"kind": "dress", "colour": "red", "pattern": "plain", "sleeve": "x", "length": "x"}
    assert told_by(caption, garment).keys() == told | set(BASE)


@settings(deadline=None)
@given(st.sampled_from(GARMENTS), st.integers(0, 10_000))
def test_a_text_tells_what_is_so(garment: dict[str, str], seed: int) -> None:
    rng = random.Random(seed)
    text, told = text_of(captions(garment, rng), garment, rng)
    assert text
    assert told
    assert told.items() <= garment.items()
    assert 1 <= len(told) <= 2 or told.keys() >= set(BASE)


@given(st.sampled_from(sorted(KIND_OF_LABEL.values())), st.sampled_from(["", "red"]), st.integers(0, 1000))
def test_a_photo_is_called_by_its_label(kind: str, colour: str, seed: int) -> None:
    text, told = photo_text(kind, colour, random.Random(seed))
    assert told["kind"] == kind
    assert ("red" in text.split()) == ("colour" in told)
    numbered(told)


def truth(known: Mapping[str, str], told: Mapping[str, str]) -> bool | None:
    if any(known.get(name, value) != value for name, value in told.items()):
        return False
    return True if told.keys() <= known.keys() else None


@pytest.mark.slow
@given(st.lists(SOME, min_size=1, max_size=5), st.lists(SOME, min_size=1, max_size=5))
def test_a_text_is_true_false_or_neither(images: list[dict[str, str]], texts: list[dict[str, str]]) -> None:
    true, false = compared(np.stack(list(map(numbered, images))), np.stack(list(map(numbered, texts))))
    for row, known in enumerate(images):
        for column, told in enumerate(texts):
            expected = truth(known, told)
            assert (bool(true[row, column]), bool(false[row, column])) == (
                expected is True,
                expected is False,
            )


def test_numbers_stand_for_words() -> None:
    row = numbered({"kind": "blazer", "colour": "red"})
    assert WORDS["kind"][row[NAMES.index("kind")]] == "blazer"
    assert VALUES["colour"][row[NAMES.index("colour")]] == "red"
    assert row[NAMES.index("pattern")] == UNKNOWN
