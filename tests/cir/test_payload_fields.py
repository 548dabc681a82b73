from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cir.commands.payload_fields import parse_fields, parse_payload
from cir.failure import Failure
from cir.values import GeoPoint
from tests.cir.test_filter_text import SCHEMA


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("colour=red", "red"),
        ("colour=red,blue", ["red", "blue"]),
        (r"colour=red\,blue", "red,blue"),
        ("colour=a=b", "a=b"),
        ("stock= 3", 3),
        ("stock=3,4", [3, 4]),
        ("price=3", 3.0),
        ("sale=no", False),
        ("added=2026-05-01", datetime(2026, 5, 1, tzinfo=UTC)),
        ("title=red, long", "red, long"),
        ("place=52.5,13.4", GeoPoint(52.5, 13.4)),
    ],
)
def test_a_value_has_the_type_of_its_field(text: str, value: object) -> None:
    [parsed] = parse_fields([text], SCHEMA).values()
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["colour"], "expected FIELD=VALUE"),
        (["=red"], "expected FIELD=VALUE"),
        (["size=m"], "no field 'size'; its fields: colour, stock"),
        (["stock=many"], "'many' is not a whole number"),
        (["place=1"], "LATITUDE,LONGITUDE"),
        (["colour=red", "colour=blue"], "twice; for several values write colour=ONE,TWO"),
    ],
)
def test_what_cannot_be_read_is_named(texts: list[str], message: str) -> None:
    with pytest.raises(Failure, match=message):
        parse_fields(texts, SCHEMA)


def test_a_whole_payload_is_a_json_object() -> None:
    assert parse_payload('{"a": [1, 2], "place": {"lat": 1, "lon": 2.5}, "gone": null}') == {
        "a": [1, 2],
        "place": GeoPoint(1, 2.5),
        "gone": None,
    }
    for text in ("[1]", "red", "{"):
        with pytest.raises(Failure, match="--payload"):
            parse_payload(text)
