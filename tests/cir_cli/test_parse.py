"""Filters, turns and payload fields as they are written on a command line."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cir.errors import InvalidArgument
from cir.fields import FieldType, has_type
from cir.filters import Condition, Filter, GeoRadius, MatchAny, MatchText, Range, to_filter
from cir.payload import GeoPoint
from cir.turns import Turn
from cir_cli.errors import Failure
from cir_cli.output import payload_text
from cir_cli.parse import all_turns, parse_fields, parse_filters, parse_payload, read_turns

SCHEMA = {
    "colour": "keyword",
    "stock": "integer",
    "price": "float",
    "sale": "bool",
    "added": "datetime",
    "title": "text",
    "place": "geo",
    'Size "EU"': "integer",
    "a=b": "keyword",
    "price<now": "float",
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
        ("added=2026-05-01,2026-05-02T12:00Z", MatchAny("added", ["2026-05-01", "2026-05-02T12:00Z"])),
        ("added<2026-05-01T02:00+02:00", Range("added", lt=MAY)),
        ("added>2026-05-01t00:00z", Range("added", gt=MAY)),
        ("added>2026-05-01T00:00:00.000000000Z", Range("added", gt=MAY)),
        ('Size "EU">=9007199254740993', Range('Size "EU"', gte=2**53 + 1)),
        ("a=b=c", MatchAny("a=b", ["c"])),
        ("price<now<3", Range("price<now", lt=3.0)),
        ("price<3", Range("price", lt=3.0)),
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
        ("added=2026-05-01,spring", "no point in time"),
        ("added>0001-01-01T00:00:00+01:00", "years 1 to 9999"),
        ("added>2026-W01-1", "no point in time"),
        ("colour<red", "a keyword field has no order"),
        ("title>x", "a text field has no order"),
        ("place=here", "LATITUDE,LONGITUDE,METRES"),
        ("place=a,b,c", "'a' is not a number"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, message: str) -> None:
    with pytest.raises(Failure, match=message):
        parse_filters([text], SCHEMA)


def test_a_file_of_turns(tmp_path: Path) -> None:
    path = tmp_path / "turns.json"
    path.write_text(
        json.dumps(
            [
                {"image": "a.jpg", "text": "in red", "text_weight": 0.3},
                {"text": "longer", "like": ["x"], "dislike": ["y", "z"]},
                {"item": "q"},
            ]
        )
    )
    first, second, third = read_turns(path)
    assert (first.image, first.text, first.text_weight) == (tmp_path / "a.jpg", "in red", 0.3)
    assert (second.image, second.liked, second.disliked) == (None, ["x"], ["y", "z"])
    assert third.item == "q"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("{}", "expected a list of objects"),
        ("[1]", "expected a list of objects"),
        ('[{"words": "x"}]', "turn 1: unknown words; expected dislike, image, item, like, text, text_weight"),
        ('[{}, {"text": 3}]', "turn 2: text must be a string"),
        ('[{"like": "a"}]', "like must be a list of item ids"),
        ('[{"text_weight": "half"}]', "text_weight must be a number"),
        ('[{"text_weight": true}]', "text_weight must be a number"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "turns.json"
    path.write_text(content)
    with pytest.raises(Failure, match=message):
        read_turns(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"none\.json cannot be read: No such file"):
        read_turns(tmp_path / "none.json")


def test_the_order_is_file_options_then() -> None:
    turns = all_turns([Turn(item="a")], Turn(text="b"), ["c", "d"])
    assert [turn.item or turn.text for turn in turns] == ["a", "b", "c", "d"]
    assert [turn.text for turn in all_turns([Turn(text="a")], Turn(), [])] == ["a"]


def test_nothing_to_search_for_is_wrong_usage() -> None:
    with pytest.raises(Failure, match="nothing to search for") as raised:
        all_turns([], Turn(text_weight=0.5), [])
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("earlier", "given", "then"),
    [
        ([], Turn(item="a", text_weight=0.5), ["in red"]),
        ([], Turn(text="in red", text_weight=0.5), []),
        ([Turn(item="a")], Turn(liked=["b"], text_weight=0.5), []),
    ],
)
def test_a_weight_that_weighs_nothing_is_wrong_usage(
    earlier: list[Turn], given: Turn, then: list[str]
) -> None:
    with pytest.raises(Failure, match="--text-weight") as raised:
        all_turns(earlier, given, then)
    assert raised.value.exit_code == 2
    weighed = Turn(item="a", text="in red", text_weight=0.5)
    assert all_turns(earlier, weighed, then)[len(earlier)] is weighed


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
def test_a_payload_field_that_cannot_be_read_is_named(texts: list[str], message: str) -> None:
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


SCALARS = {
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "bool": st.booleans(),
    "datetime": st.datetimes(timezones=st.just(UTC)),
    "keyword": st.text(st.sampled_from("a, \\=\u3000\u00a0\n\té") | st.characters(codec="utf-8"), min_size=1),
    "text": st.text(st.sampled_from("a, \\=\u3000\u00a0\n\té") | st.characters(codec="utf-8")),
    "geo": st.builds(GeoPoint, st.floats(-90, 90), st.floats(-180, 180)),
}


@given(st.sampled_from(sorted(SCALARS)), st.booleans(), st.data())
def test_what_is_shown_is_read_as_the_same_value(kind: str, several: bool, data: st.DataObject) -> None:
    lists = several and kind not in ("text", "geo")
    values = SCALARS[kind] if not lists else st.lists(SCALARS[kind], min_size=2, max_size=4)
    value: Any = data.draw(values)
    shown = payload_text({"x": value}, {"x": kind})
    (read,) = parse_fields([shown], {"x": kind}).values()
    assert (read, type(read)) == (value, type(value))
    if kind == "keyword":
        wanted = value if isinstance(value, list) else [value]
        assert _conditions(shown, kind) == [MatchAny("x", wanted)]
    if kind == "text":
        assert _conditions(shown, kind) == [MatchText("x", str(value))]


def _conditions(text: str, kind: str) -> list[Condition]:
    where = parse_filters([text], {"x": kind})
    assert where is not None
    return list(where.must)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (" red ", ["red"]),
        ("\\ red\\ ", [" red "]),
        ("a\\,b", ["a,b"]),
        ("a\\\\,b", ["a\\", "b"]),
        ("C:\\new", ["C:\\new"]),
        ("a\\\\ ", ["a\\"]),
        ("red,\\ dark", ["red", " dark"]),
    ],
)
def test_a_backslash_keeps_commas_and_outer_spaces(text: str, read: list[str]) -> None:
    assert _conditions(f"x={text}", "keyword") == [MatchAny("x", read)]


def test_a_payload_as_it_is_shown_in_json_can_be_written_again() -> None:
    place = {"lat": 52.5, "lon": 13}
    assert parse_payload(json.dumps({"a": place})) == {"a": GeoPoint(52.5, 13)}
    assert parse_payload(json.dumps({"a": {"latitude": 1, "longitude": 2}})) == {"a": GeoPoint(1, 2)}
    assert parse_payload('{"a": {"lat": "x", "lon": 1}}') == {"a": {"lat": "x", "lon": 1}}
    with pytest.raises(Failure, match="no JSON"):
        parse_payload("[" * 100_000)


# Dates in every form, right and wrong ones; a comma would end a value of --filter.
DATES = (
    st.from_regex(
        r"(0001|19\d\d|2026|9999)-[01]\d-[0-3]\d"
        r"([Tt ][0-2]\d:[0-5]\d(:[0-6]\d(\.\d{1,9})?)?([Zz]|[+-][0-2]\d:[0-5]\d)?)?",
        fullmatch=True,
    )
    | st.datetimes().map(datetime.isoformat)
    | st.dates().map(date.isoformat)
    | st.text(st.characters(codec="utf-8", exclude_characters=",=\\"), max_size=20).map(str.strip)
)


@given(DATES, st.sampled_from([("<", "lt"), ("<=", "lte"), (">", "gt"), (">=", "gte")]))
def test_the_filters_of_the_client_take_the_dates_of_the_command_line_and_of_payloads(
    text: str, operator: tuple[str, str]
) -> None:
    line = client = None
    with suppress(Failure):
        line = to_filter(parse_filters([f"added{operator[0]}{text}"], SCHEMA))
    with suppress(InvalidArgument):
        client = to_filter({"added": {operator[1]: text}})
    assert client == line
    assert (line is not None) == has_type(text, FieldType.DATETIME)
