"""Sentences with a word embedding among their tokens: their layout, and that a template costs no text."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cir.prompts import parse_template
from embedder_service.prompts import tokenize_prompts, word_mask

CONTEXT = 12
BEGIN, END = 98, 99


class Letters:
    """A token for each letter."""

    context, begin, end = CONTEXT, BEGIN, END

    def words(self, text: str) -> list[int]:
        """Return a number for each letter; blanks are none."""
        return [ord(letter) - 90 for letter in text if letter != " "]


letters = st.text("abcdefgh", max_size=16)


@given(letters, letters, letters, letters)
def test_the_template_never_costs_any_of_the_text(before: str, between: str, after: str, text: str) -> None:
    template = parse_template(f"{before}{{image}}{between}{{text}}{after}")
    words = np.ones((1, 2), np.float32)
    (prompt,), cuts = tokenize_prompts(Letters(), template, [text], words)
    tokens = prompt["tokens"][: int(np.flatnonzero(prompt["tokens"] == END)[0]) + 1].tolist()
    place = int(prompt["place"])
    room = CONTEXT - 3
    ids = Letters().words(text)
    own = [Letters().words(part) for part in (before, between, after)]
    if len(ids) + sum(map(len, own)) > room:
        own = [[], [], []]
    assert tokens == [BEGIN, *own[0], 0, *own[1], *ids[:room], *own[2], END]
    assert place == 1 + len(own[0])
    assert cuts == ({0: len(ids) + 3} if len(ids) > room else {})


@given(st.lists(st.integers(0, CONTEXT - 1), min_size=1, max_size=5))
def test_the_mask_is_true_at_the_word_alone(places: list[int]) -> None:
    words = np.zeros((len(places), 2), np.float32)
    prompts, _ = tokenize_prompts(Letters(), parse_template("{image}{text}"), ["a"] * len(places), words)
    prompts["place"] = places
    mask = word_mask(prompts, CONTEXT)
    assert [np.flatnonzero(row).tolist() for row in mask] == [[place] for place in places]
