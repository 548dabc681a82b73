from __future__ import annotations

from datetime import UTC, date, datetime
from typing import cast

import pytest

from cir.errors import InvalidArgument
from cir.filters import (
    Exists,
    Filter,
    GeoRadius,
    HasId,
    MatchAny,
    MatchText,
    Range,
    Where,
    from_dict,
    to_filter,
)
from cir.payload import GeoPoint
from cir.search.v1 import filter_pb2 as pb

MOMENT = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ({"colour": "red"}, Filter(must=[MatchAny("colour", ("red",))])),
        ({"sale": True}, Filter(must=[MatchAny("sale", (True,))])),
        ({"size": ["s", "m"]}, Filter(must=[MatchAny("size", ["s", "m"])])),
        ({"size": {"s", "m"}}, Filter(must=[MatchAny("size", ["m", "s"])])),
        ({"price": {"lt": 20, "gte": 5}}, Filter(must=[Range("price", gte=5, lt=20)])),
        ({"price": 9.5}, Filter(must=[Range("price", gte=9.5, lte=9.5)])),
        ({"added": datetime(2026, 1, 2)}, Filter(must=[MatchAny("added", [MOMENT])])),
        ({"added": date(2026, 1, 2)}, Filter(must=[MatchAny("added", "2026-01-02")])),
        (
            {"added": {"not": [date(2026, 1, 2), MOMENT]}},
            Filter(must_not=[MatchAny("added", ["2026-01-02", MOMENT])]),
        ),
        ({"price": {"not": [9.5]}}, Filter(must_not=[Filter(should=[Range("price", gte=9.5, lte=9.5)])])),
        ({"colour": {"not": ["red"]}}, Filter(must_not=[MatchAny("colour", ["red"])])),
        ({"brand": {"exists": True}}, Filter(must=[Exists("brand")])),
        ({"brand": {"exists": False}}, Filter(must_not=[Exists("brand")])),
        ({"title": {"words": "summer dress"}}, Filter(must=[MatchText("title", "summer dress")])),
        (
            {"a": 1, "b": {"gt": 2, "not": 5}},
            Filter([MatchAny("a", (1,)), Range("b", gt=2)], (), [MatchAny("b", (5,))]),
        ),
    ],
)
def test_the_short_form_means_the_long_one(short: dict[str, object], long: Filter) -> None:
    assert from_dict(short) == Filter(list(long.must), list(long.should), list(long.must_not)) or (
        to_filter(short) == to_filter(long)
    )
    assert to_filter(short) == to_filter(long)


def test_every_condition_is_written() -> None:
    where = Filter(
        must=[Range("price", gt=1, lte=2.5), HasId(["a", "b"])],
        should=[GeoRadius("place", GeoPoint(52.5, 13.4), 1000.0), Filter(must=[Exists("x")])],
        must_not=[MatchText("title", "old")],
    )
    message = to_filter(where)
    assert message.must[0].range.gt.integer_value == 1
    assert message.must[0].range.lte.float_value == 2.5
    assert not message.must[0].range.HasField("lt")
    assert list(message.must[1].has_id.item_ids) == ["a", "b"]
    assert message.should[0].geo_radius.center.latitude == 52.5
    assert message.should[0].geo_radius.radius_meters == 1000.0
    assert message.should[1].filter.must[0].exists.field == "x"
    assert message.must_not[0].match_text.text == "old"


def test_nothing_and_a_lone_condition_are_filters_too() -> None:
    assert to_filter(None) == pb.Filter()
    assert to_filter(Exists("a")) == to_filter(Filter(must=[Exists("a")]))


def test_an_unknown_operator_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidArgument, match="no operator 'under'; use one of gt, gte, lt, lte, not"):
        to_filter({"price": {"under": 5}})


def test_something_that_is_no_condition_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="a str is no filter condition"):
        to_filter(cast("Where", Filter(must=[cast("Exists", "price<5")])))


@pytest.mark.parametrize(
    "bound", ["50", "", "soon", "2026-13-01", "2026-1-1", True, [1], [MOMENT], GeoPoint(1, 2)]
)
@pytest.mark.parametrize("side", ["gt", "gte", "lt", "lte"])
def test_a_bound_that_has_no_order_is_refused_with_its_field_and_the_forms(side: str, bound: object) -> None:
    with pytest.raises(
        InvalidArgument, match=r'filter on price: a bound is a number \(\{"lt": 50\}\)'
    ) as raised:
        to_filter({"price": {side: bound}})
    assert raised.value.field == "price"
