"""Turns of a query."""

from __future__ import annotations

import pytest

from cir.errors import InvalidArgument
from cir.search.v1 import search_pb2 as pb
from cir.turns import Turn


def test_each_reference_has_its_field() -> None:
    assert Turn(image=b"abc").message().reference.image == b"abc"
    assert Turn(item="a/b").message().reference.item_id == "a/b"
    assert Turn(features=[1.0, 2.0]).message().reference.features.dimension == 2


def test_a_turn_without_reference_leaves_it_unset() -> None:
    message = Turn(text="in red", liked=["a"], disliked=["b"]).message()
    assert message == pb.Turn(text="in red", liked_item_ids=["a"], disliked_item_ids=["b"])
    assert not message.HasField("reference")
    assert not message.HasField("text_weight")


def test_a_text_weight_of_zero_is_not_the_same_as_none() -> None:
    assert Turn(text="x", text_weight=0.0).message().HasField("text_weight")


def test_a_lone_id_is_one_id() -> None:
    assert list(Turn(liked="abc").message().liked_item_ids) == ["abc"]


def test_two_references_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="this one has image and item"):
        Turn(image=b"abc", item="x").message()
