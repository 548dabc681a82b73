from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cir.commands.filter_text import parse_filters
from cir.failure import Failure
from cir.filters import Condition, Filter, GeoRadius, MatchAny, MatchText, Range
from cir.values import GeoPoint

SCHEMA = {
    "colour": "keyword",
    "stock": "integer",
    "price": "float",
    "sale": "bool",
    "added": "datetime",
    "title": "text",
    "place": "geo",
}
MAY = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("colour=red", MatchAny("colour", ["red"])),
        ("colour = red , blue", MatchAny("colour", ["red ", " blue"])),
        ("colour=red,blue", MatchAny("colour", ["red", "blue"])),
        (r"colour=red\,blue", MatchAny("colour", ["red,blue"])),
        ("colour=a=b", MatchAny("colour", ["a=b"])),
        ("stock=3,4", MatchAny("stock", [3, 4])),
        ("stock>=3", Range("stock", gte=3)),
        ("stock>3", Range("stock", gt=3)),
        ("price<19.9", Range("price", lt=19.9)),
        ("price<=20", Range("price", lte=20.0)),
        ("price=20", Range("price", gte=20.0, lte=20.0)),
        ("price=1,2", Filter(should=[Range("price", gte=1.0, lte=1.0), Range("price", gte=2.0, lte=2.0)])),
        ("sale=true", MatchAny("sale", [True])),
        ("sale=No", MatchAny("sale", [False])),
        ("added>2026-05-01", Range("added", gt=MAY)),
        ("added<2026-05-01T02:00+02:00", Range("added", lt=MAY)),
        ("title=summer dress", MatchText("title", "summer dress")),
        ("place=52.5,13.4,1000", GeoRadius("place", GeoPoint(52.5, 13.4), 1000.0)),
    ],
)
def test_a_text_is_read_by_the_type_of_its_field(text: str, condition: Condition) -> None:
    assert parse_filters([text], SCHEMA) == Filter(must=[condition], must_not=[])


def test_not_equal_goes_into_must_not_and_all_must_hold() -> None:
    parsed = parse_filters(["colour!=red,blue", "price<5", "stock=1"], SCHEMA)
    assert parsed == Filter(
        must=[Range("price", lt=5.0), MatchAny("stock", [1])], must_not=[MatchAny("colour", ["red", "blue"])]
    )


def test_no_texts_are_no_filter() -> None:
    assert parse_filters([], SCHEMA) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour", "expected FIELD=VALUE"),
        ("=red", "expected FIELD=VALUE"),
        ("size=m", "no field 'size'; its fields: colour, stock, price"),
        ("stock=3.5", "'3.5' is not a whole number"),
        ("price<cheap", "'cheap' is not a number"),
        ("sale=maybe", "not true or false"),
        ("added>spring", "no point in time"),
        ("colour<red", "a keyword field has no order"),
        ("title>x", "a text field has no order"),
        ("place=here", "LATITUDE,LONGITUDE,METRES"),
        ("place=a,b,c", "'a' is not a number"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, message: str) -> None:
    with pytest.raises(Failure, match=message):
        parse_filters([text], SCHEMA)
