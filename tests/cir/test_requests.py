from __future__ import annotations

from typing import Any

import pytest

import cir.requests
from cir import requests
from cir.errors import InvalidArgument
from cir.filters import Filter, GeoRadius, HasId, MatchAny, MatchText, to_filter
from cir.items import ItemUpdate, ItemWrite
from cir.payload import GeoPoint
from cir.requests import search
from cir.search.v1 import search_pb2 as pb
from cir.turns import Turn


def request(*args: object, **kwargs: object) -> pb.SearchRequest:
    call = search(*args, **kwargs)  # type: ignore[arg-type]
    assert isinstance(call.request, pb.SearchRequest)
    assert call.method == "/cir.search.v1.SearchService/Search"
    return call.request


def test_the_arguments_describe_one_turn() -> None:
    sent = request("shop", image=b"abc", text="in red", liked=["x"], text_weight=0.3)
    assert sent.parent == "catalogs/shop"
    assert len(sent.turns) == 1
    assert sent.turns[0].reference.image == b"abc"
    assert sent.turns[0].text == "in red"
    assert sent.turns[0].text_weight == 0.3
    assert list(sent.turns[0].liked_item_ids) == ["x"]
    assert sent.page_size == 10
    assert not sent.HasField("filter")
    assert not sent.HasField("score_threshold")


def test_earlier_turns_come_before_the_one_of_the_arguments() -> None:
    turns = [Turn(item="a"), Turn(text="b")]
    assert [turn.text for turn in request("shop", turns=turns, text="c").turns] == ["", "b", "c"]
    assert [turn.text for turn in request("shop", turns=turns).turns] == ["", "b"]
    assert len(request("shop").turns) == 0


def test_every_option_is_sent() -> None:
    sent = request(
        "shop",
        item="a",
        combiner="combiner/x",
        where={"price": {"lt": 3}},
        page_size=5,
        page_token="t",
        exact=True,
        ef=64,
        score_threshold=0.0,
        exclude_references=False,
        exclude_disliked=False,
        exclude=["z"],
        diversity=0.5,
        group_by="brand",
        group_size=2,
        with_features=True,
        with_query_vector=True,
        version="v3",
        feedback="recommend",
    )
    assert (sent.combiner, sent.page_size, sent.page_token, sent.exact, sent.ef) == (
        "combiner/x",
        5,
        "t",
        True,
        64,
    )
    assert sent.HasField("score_threshold")
    assert sent.HasField("exclude_references")
    assert (sent.exclude_references, sent.exclude_disliked) == (False, False)
    assert list(sent.exclude_item_ids) == ["z"]
    assert (sent.diversity, sent.group_by, sent.group_size) == (0.5, "brand", 2)
    assert (sent.with_features, sent.with_query_vector) == (True, True)
    assert sent.pinned_version == "catalogs/shop/versions/v3"
    assert sent.feedback == pb.FEEDBACK_METHOD_RECOMMEND
    assert request("shop", item="a").feedback == pb.FEEDBACK_METHOD_UNSPECIFIED
    with pytest.raises(InvalidArgument, match="it is rocchio or recommend"):
        search("shop", item="a", feedback="average")
    assert sent.filter.must[0].range.lt.integer_value == 3


def test_the_next_page_is_the_same_query() -> None:
    call = search("shop", item="a", page_size=5, timeout=3.0)
    following = call.next_page("token")
    expected = pb.SearchRequest()
    expected.CopyFrom(call.request)  # type: ignore[arg-type]
    expected.page_token = "token"
    assert following.request == expected
    assert following.timeout == 3.0
    assert request("shop", item="a").page_token == ""


def test_a_request_that_no_server_takes_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cir.requests, "MAX_MESSAGE_BYTES", 100)
    with pytest.raises(InvalidArgument, match="a message at most 100; send smaller images"):
        search("shop", image=b"x" * 101).encode()


BAD_TEXT = "caf\udce9"


@pytest.mark.parametrize(
    ("build", "arguments"),
    [
        (requests.search, {"catalog": BAD_TEXT, "text": "x"}),
        (requests.search, {"catalog": "shop", "text": BAD_TEXT}),
        (requests.search, {"catalog": "shop", "item": BAD_TEXT}),
        (requests.search, {"catalog": "shop", "text": "x", "liked": [BAD_TEXT]}),
        (requests.search, {"catalog": "shop", "text": "x", "exclude": [BAD_TEXT]}),
        (requests.search, {"catalog": "shop", "text": "x", "where": {"colour": BAD_TEXT}}),
        (requests.search, {"catalog": "shop", "text": "x", "where": {BAD_TEXT: "red"}}),
        (requests.search, {"catalog": "shop", "text": "x", "combiner": BAD_TEXT}),
        (requests.search, {"catalog": "shop", "text": "x", "page_size": 2**40}),
        (requests.item, {"catalog": "shop", "item_id": BAD_TEXT}),
        (requests.items, {"catalog": "shop", "item_ids": [BAD_TEXT]}),
        (requests.upsert, {"catalog": "shop", "items": [ItemWrite(BAD_TEXT)]}),
        (requests.upsert, {"catalog": "shop", "items": [ItemWrite("a", payload={"x": BAD_TEXT})]}),
        (requests.upsert, {"catalog": "shop", "items": [ItemWrite("a", image=BAD_TEXT)]}),
        (requests.update, {"catalog": "shop", "items": [ItemUpdate("a", {BAD_TEXT: 1})]}),
        (requests.update, {"catalog": "shop", "items": [ItemUpdate("a")], "fields": [BAD_TEXT]}),
        (requests.delete, {"catalog": "shop", "item_ids": [BAD_TEXT]}),
        (requests.facets, {"catalog": "shop", "fields": [BAD_TEXT]}),
    ],
)
def test_what_no_message_can_hold_is_an_invalid_argument(build: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as raised:
        requests.build_call(build, **arguments)
    assert raised.value.message.encode()  # it can be printed


@pytest.mark.parametrize(
    ("request_of", "listed"),
    [
        (lambda ids: requests.delete("shop", ids), "item_ids"),
        (lambda ids: requests.items("shop", ids), "item_ids"),
        (lambda ids: requests.search("shop", text="a", exclude=ids), "exclude_item_ids"),
        (lambda ids: requests.facets("shop", ids), "fields"),
    ],
)
def test_a_text_where_texts_are_meant_is_one_of_them(request_of: Any, listed: str) -> None:
    assert list(getattr(request_of("4711").request, listed)) == ["4711"]
    assert list(getattr(request_of(("4", "7")).request, listed)) == ["4", "7"]
    for wrong in (4711, [None], [["4"]], None):
        with pytest.raises(InvalidArgument, match="takes texts, not"):
            request_of(wrong)


@pytest.mark.parametrize(
    "where",
    [
        {1: 1},
        HasId([None]),  # type: ignore[list-item]
        GeoRadius("place", GeoPoint("a", 2), 3),  # type: ignore[arg-type]
        GeoRadius("place", None, 3),  # type: ignore[arg-type]
        MatchText("a", 3),  # type: ignore[arg-type]
        MatchAny("a", None),  # type: ignore[arg-type]
        Filter(must=3),  # type: ignore[arg-type]
    ],
)
def test_a_filter_of_other_types_is_refused_as_such(where: Any) -> None:
    with pytest.raises(InvalidArgument):
        to_filter(where)


def test_a_lone_value_of_a_filter_is_one_value() -> None:
    assert to_filter(MatchAny("k", "red")) == to_filter(MatchAny("k", ["red"]))
    assert to_filter(MatchAny("k", 12)) == to_filter(MatchAny("k", [12]))  # type: ignore[arg-type]
    assert to_filter(HasId("4711")) == to_filter(HasId(["4711"]))
