"""Searches by an inversion: the image becomes a word, and the embedder reads it with the text."""

from __future__ import annotations

import numpy as np
import pytest

from cir.search.v1.search_pb2 import Reference, SearchRequest, Turn, TurnKind
from cir.vectors import normalize, unpack
from tests.refused import refused
from tests.search_service.conftest import Stack
from tests.search_service.neighbours import (
    CONTEXT,
    TEMPLATE,
    TOKEN_WIDTH,
    features_of,
    sentence_features,
)

pytestmark = pytest.mark.service


def request(*turns: Turn) -> SearchRequest:
    return SearchRequest(
        parent="catalogs/shop", turns=turns, combiner="inversion/fake", with_query_vector=True
    )


async def test_the_query_is_the_sentence_of_word_and_text(stack: Stack) -> None:
    turn = Turn(reference=Reference(image=b"picture"), text="in red")
    answer = await stack.search.Search(request(turn))
    expected = sentence_features(TEMPLATE, "in red", features_of(b"picture")[:TOKEN_WIDTH])
    np.testing.assert_allclose(unpack(answer.query_vector)[0], normalize(expected), atol=1e-6)
    (explained,) = answer.explanation.turns
    assert not explained.HasField("network_lambda")
    assert answer.explanation.combiner == "inversion/fake"
    assert (stack.embedder.texts, stack.embedder.prompts, stack.embedder.images) == (1, 1, 1)
    assert answer.timings.HasField("combine")
    assert answer.timings.HasField("embed_texts")


async def test_a_sentence_is_explained_by_the_sentences_without_text_and_without_image(stack: Stack) -> None:
    asked = request(Turn(reference=Reference(image=b"picture"), text="in red"))
    plain = await stack.search.Search(asked)
    asked.explain_turns = True
    told = await stack.search.Search(asked)
    assert told.query_vector == plain.query_vector
    assert stack.embedder.prompts == 1 + 3
    gave = told.explanation.turns[0].contribution
    query = unpack(told.query_vector)[0]
    without = sentence_features(TEMPLATE, "", features_of(b"picture")[:TOKEN_WIDTH])
    assert gave.text_moved == pytest.approx(1 - float(query @ normalize(without)), abs=1e-5)
    assert 0 < gave.text_share < 1


async def test_a_dialogue_goes_on_from_the_sentence(stack: Stack) -> None:
    first = Turn(reference=Reference(item_id="item-1"), text="in red")
    before = unpack((await stack.search.Search(request(first))).query_vector)[0]
    answer = await stack.search.Search(request(first, Turn(text="longer")))
    kinds = [turn.kind for turn in answer.explanation.turns]
    assert kinds == [TurnKind.TURN_KIND_COMPOSED, TurnKind.TURN_KIND_CONTINUED]
    # Each turn of each search is a sentence of its own.
    assert stack.embedder.prompts == 3
    assert not np.allclose(unpack(answer.query_vector)[0], before)


async def test_a_sentence_that_was_cut_is_said(stack: Stack) -> None:
    text = "x" * CONTEXT
    turn = Turn(reference=Reference(image=b"picture"), text=text)
    (explained,) = (await stack.search.Search(request(turn))).explanation.turns
    assert (explained.text_tokens, explained.read_tokens) == (CONTEXT + 1, CONTEXT)


async def test_words_of_another_tower_are_the_combiners_fault(stack: Stack) -> None:
    stack.combiner.width = TOKEN_WIDTH + 1
    turn = Turn(reference=Reference(image=b"picture"), text="in red")
    refusal = await refused(stack.search.Search(request(turn)))
    assert (refusal.reason, refusal.field) == ("COMBINER_UNUSABLE", "combiner")
