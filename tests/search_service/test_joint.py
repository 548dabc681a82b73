"""Searches by a joint encoder: the embedder reads image and text together, and nothing is combined."""

from __future__ import annotations

import numpy as np
import pytest

from cir.search.v1.search_pb2 import GetSearchInfoRequest, Reference, SearchRequest, Turn
from cir.vectors import normalize, unpack
from tests.refused import refused
from tests.search_service.conftest import Stack
from tests.search_service.neighbours import UNREADABLE, features_of

pytestmark = pytest.mark.service

PICTURE = Reference(image=b"picture")


def request(*turns: Turn) -> SearchRequest:
    return SearchRequest(parent="catalogs/shop", turns=turns, combiner="joint/fake", with_query_vector=True)


async def test_the_query_is_that_of_image_and_text_together(stack: Stack) -> None:
    answer = await stack.search.Search(request(Turn(reference=PICTURE, text="in red")))
    expected = normalize(features_of(b"picture" + b"in red"))
    np.testing.assert_allclose(unpack(answer.query_vector)[0], expected, atol=1e-6)
    (explained,) = answer.explanation.turns
    assert not explained.HasField("network_lambda")
    assert not explained.HasField("contribution")
    assert answer.explanation.combiner == "joint/fake"
    assert not stack.combiner.calls


async def test_a_turn_without_text_needs_no_encoder(stack: Stack) -> None:
    answer = await stack.search.Search(request(Turn(reference=Reference(item_id="item-1"))))
    assert answer.explanation.combiner == ""


@pytest.mark.parametrize(
    ("turns", "field"),
    [
        ([Turn(reference=Reference(item_id="item-1"), text="in red")], "turns[0].reference"),
        ([Turn(reference=PICTURE, text="in red"), Turn(text="longer")], "turns[1].reference"),
        ([Turn(text="a dress"), Turn(text="longer")], "turns[1].reference"),
        ([Turn(reference=PICTURE, text="in red", text_weight=0.5)], "turns[0].text_weight"),
    ],
)
async def test_what_it_cannot_read_is_refused_before_any_work(
    stack: Stack, turns: list[Turn], field: str
) -> None:
    refusal = await refused(stack.search.Search(request(*turns)))
    assert (refusal.reason, refusal.field) == ("FIELD_INVALID", field)
    assert (stack.embedder.images, stack.embedder.texts) == (0, 0)


async def test_an_unreadable_image_is_the_caller_s(stack: Stack) -> None:
    turn = Turn(reference=Reference(image=UNREADABLE), text="in red")
    assert (await refused(stack.search.Search(request(turn)))).reason == "IMAGE_UNREADABLE"


async def test_it_is_listed_with_the_combiners(stack: Stack) -> None:
    info = await stack.search.GetSearchInfo(GetSearchInfoRequest())
    assert list(info.combiners)[-1] == "joint/fake"
    assert "joint/fake" not in info.weighted_combiners
