"""Types of columns, cells as payload values, and types given by the user."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import SourceError
from indexer.sources.columns import ColumnTypes, UnusableValue, kind_of, payload_of, read_schema
from indexer.sources.rows import CellText
from vector_store.types import FieldType
from vector_store.validation import check_payload

K = FieldType


def schema_of(*values: Any, given: dict[str, FieldType] | None = None) -> tuple[FieldType | None, list[str]]:
    types = ColumnTypes()
    for row, value in enumerate(values, start=1):
        types.see({"c": value}, row)
    schema, notes = types.schema(given or {})
    return schema.get("c"), notes


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("12", K.INTEGER),
        ("-3", K.INTEGER),
        ("0", K.INTEGER),
        (" 7 ", K.INTEGER),
        ("007", K.KEYWORD),
        ("9223372036854775807", K.INTEGER),
        ("9223372036854775808", K.KEYWORD),
        ("1.5", K.FLOAT),
        ("1e3", K.FLOAT),
        ("1e999", K.KEYWORD),
        ("nan", K.KEYWORD),
        ("inf", K.KEYWORD),
        ("1,5", K.KEYWORD),
        ("١", K.KEYWORD),
        ("True", K.BOOL),
        ("false", K.BOOL),
        ("yes", K.KEYWORD),
        ("2024-05-01", K.DATETIME),
        ("2024-05-01T12:00:00Z", K.DATETIME),
        ("2024-13-01", K.KEYWORD),
        ("red", K.KEYWORD),
    ],
)
def test_kinds_of_texts(text: str, kind: FieldType) -> None:
    assert kind_of(CellText(text)) is kind


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, K.BOOL),
        (3, K.INTEGER),
        (2**63, K.KEYWORD),
        (0.5, K.FLOAT),
        ("12", K.KEYWORD),
        ("2024-05-01", K.DATETIME),
        ({"lat": 52.5, "lon": 13.4}, K.GEO),
    ],
)
def test_kinds_of_typed_values(value: object, kind: FieldType) -> None:
    assert kind_of(value) is kind


@pytest.mark.parametrize("value", [{"a": 1}, {"lat": 1, "lon": 2, "alt": 3}, b"x", [1], object()])
def test_values_that_no_field_can_hold(value: object) -> None:
    with pytest.raises(UnusableValue):
        kind_of(value)
    with pytest.raises(UnusableValue, match="'c'"):
        schema_of([value])


def test_integers_and_floats_together_are_floats_without_a_remark() -> None:
    assert schema_of(1, 2.5, [3]) == (K.FLOAT, [])


def test_other_mixtures_are_keyword_with_a_remark_that_names_the_rows() -> None:
    kind, notes = schema_of(CellText("12"), CellText("13"), CellText("n/a"))
    assert kind is K.KEYWORD
    assert notes == [
        "column 'c' is keyword because it holds integer (row 1), keyword (row 3); a given type changes that"
    ]


def test_places_mix_with_nothing() -> None:
    with pytest.raises(UnusableValue, match="places mix with nothing"):
        schema_of({"lat": 1, "lon": 2}, "Berlin")


def test_a_given_type_is_taken_as_it_is() -> None:
    assert schema_of(CellText("12"), CellText("n/a"), given={"c": K.INTEGER}) == (K.INTEGER, [])
    assert schema_of("a b", given={"c": K.TEXT}) == (K.TEXT, [])


def test_columns_without_values_have_no_type() -> None:
    assert schema_of([None], []) == (None, [])


SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text)),
    st.sampled_from(["12", "1.5", "true", "2024-05-01", "007", "n/a", "1e3"]).map(CellText),
    st.dates().map(str),
)
CELLS = st.one_of(SCALARS, st.lists(st.one_of(st.none(), SCALARS), max_size=3))


@given(st.lists(st.dictionaries(st.sampled_from("abc"), CELLS, max_size=3), max_size=8), st.randoms())
def test_every_payload_fits_the_schema_found_and_row_order_does_not_matter(
    rows: list[dict[str, Any]], order: random.Random
) -> None:
    types, shuffled = ColumnTypes(), ColumnTypes()
    for number, cells in enumerate(rows):
        types.see(cells, number)
    for cells in order.sample(rows, len(rows)):
        shuffled.see(cells, 1)
    schema, _ = types.schema({})
    assert schema == shuffled.schema({})[0]
    assert list(schema) == sorted(schema)
    for cells in rows:
        payload = payload_of(cells, schema)
        check_payload(payload, schema, item="x")
        assert payload.keys() == cells.keys()


T = CellText


@pytest.mark.parametrize(
    ("cell", "kind", "value"),
    [
        (T("12"), K.INTEGER, 12),
        (T(" 12 "), K.FLOAT, 12.0),
        (T("True"), K.BOOL, True),
        (T("2024-05-01 "), K.DATETIME, "2024-05-01"),
        (T("12"), K.KEYWORD, "12"),
        (T("1.50"), K.KEYWORD, "1.50"),
        (T("52.5, 13.4"), K.GEO, {"lat": 52.5, "lon": 13.4}),
        (3, K.FLOAT, 3.0),
        (3, K.KEYWORD, "3"),
        (True, K.KEYWORD, "true"),
        (["a", 1, None], K.KEYWORD, ["a", "1"]),
        ([1, 2.5], K.FLOAT, [1.0, 2.5]),
        (T("n/a"), K.INTEGER, "n/a"),
        (T("maybe"), K.BOOL, "maybe"),
        (T("Berlin"), K.GEO, "Berlin"),
        (10**400, K.FLOAT, 10**400),
    ],
)
def test_values_take_the_type_of_their_column_or_stay_as_they_are(cell: Any, kind: K, value: Any) -> None:
    (got,) = payload_of({"c": cell}, {"c": kind}).values()
    assert got == value
    assert type(got) is type(value)


def test_later_ones_win(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"a": "geo", "b": "text"}')
    schema = read_schema(["a=float", str(tmp_path / "s.json"), "b=keyword", "x=y=bool"])
    assert schema == {"a": FieldType.GEO, "b": FieldType.KEYWORD, "x=y": FieldType.BOOL}
    assert read_schema([]) == {}


@pytest.mark.parametrize("text", ["a=number", "a=", "nowhere.json", "list.json", "wrong.json", "broken.json"])
def test_what_is_wrong_is_told(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "wrong.json").write_text('{"a": 1}')
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(SourceError, match="`schema`"):
        read_schema([text])
