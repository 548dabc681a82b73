"""What is true of what, against the words themselves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from garments.vocabulary import KINDS, VALUES, combinations
from scripts.small_clip.truth import NAMES, UNKNOWN, WORDS, compared, numbered

GARMENTS = [garment for kind in KINDS for garment in combinations(kind)]
SOME = st.sampled_from(GARMENTS).flatmap(
    lambda garment: st.sets(st.sampled_from(list(garment))).map(
        lambda names: {name: garment[name] for name in names}
    )
)


def truth(known: Mapping[str, str], told: Mapping[str, str]) -> bool | None:
    if any(known.get(name, value) != value for name, value in told.items()):
        return False
    return True if told.keys() <= known.keys() else None


@given(st.lists(SOME, min_size=1, max_size=5), st.lists(SOME, min_size=1, max_size=5))
def test_a_text_is_true_false_or_neither(pictures: list[dict[str, str]], texts: list[dict[str, str]]) -> None:
    true, false = compared(np.stack(list(map(numbered, pictures))), np.stack(list(map(numbered, texts))))
    for row, known in enumerate(pictures):
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
