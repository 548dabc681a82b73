"""Types of columns, and cells as payload values of them."""

from __future__ import annotations

import random
import shlex
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cir.fields import FieldType
from cir.tables.cells import BadCell, CellText, Unsupported, cell_of, parse_json
from cir.tables.columns import ColumnTypes, UnusableValue
from vector_store.validation import check_payload

K = FieldType
T = CellText
LONG = 2**53 + 1


def columns_of(*values: Any, given: dict[str, FieldType] | None = None) -> Any:
    types = ColumnTypes()
    for row, value in enumerate(values, start=1):
        types.see({"c": value}, row)
    return types.columns(given or {})


def schema_of(*values: Any, given: dict[str, FieldType] | None = None) -> tuple[FieldType | None, list[str]]:
    found = columns_of(*values, given=given)
    return found.schema.get("c"), list(found.notes)


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
        ("-99999999999999999999", K.KEYWORD),
        ("1.5", K.FLOAT),
        ("10.00", K.FLOAT),
        ("1e3", K.KEYWORD),
        ("12E12", K.KEYWORD),
        ("1.0e3", K.FLOAT),
        ("1e-3", K.FLOAT),
        ("1E+05", K.FLOAT),
        ("1e999", K.KEYWORD),
        ("nan", None),
        ("NaN", None),
        ("inf", K.KEYWORD),
        ("1,5", K.KEYWORD),
        ("1_000", K.KEYWORD),
        ("0x1F", K.KEYWORD),
        ("١", K.KEYWORD),
        ("True", K.BOOL),
        ("false", K.BOOL),
        ("yes", K.KEYWORD),
        ("2024-05-01", K.DATETIME),
        ("2024-05-01T12:00:00Z", K.DATETIME),
        ("2024-13-01", K.KEYWORD),
        ("red", K.KEYWORD),
        # The digits say more than a float could hold.
        ("9007199254740993.0", K.INTEGER),
        ("12345678901234567.89", K.KEYWORD),
    ],
)
def test_columns_of_one_text(text: str, kind: FieldType | None) -> None:
    assert schema_of(CellText(text))[0] is kind


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, K.BOOL),
        (3, K.INTEGER),
        (2**63, K.KEYWORD),
        (0.5, K.FLOAT),
        (1e300, K.FLOAT),
        (Decimal("1.50"), K.FLOAT),
        (Decimal("2.00"), K.FLOAT),
        (Decimal("0.123456789012345678"), K.KEYWORD),
        (Decimal(f"{LONG}.00"), K.INTEGER),
        (Decimal("9" * 76), K.KEYWORD),
        ("12", K.KEYWORD),
        ("12E12", K.KEYWORD),
        ("NaN", K.KEYWORD),
        ("2024-05-01", K.DATETIME),
        ({"lat": 52.5, "lon": 13.4}, K.GEO),
    ],
)
def test_columns_of_one_typed_value(value: object, kind: FieldType) -> None:
    assert schema_of(value)[0] is kind


def test_integers_and_floats_together_are_floats_without_a_remark() -> None:
    assert schema_of(1, 2.5, [3]) == (K.FLOAT, [])


@pytest.mark.parametrize(
    ("values", "kind", "stored"),
    [
        ((LONG, 2), K.INTEGER, [LONG, 2]),
        ((LONG, 2.0), K.INTEGER, [LONG, 2]),
        ((LONG, 1e17), K.INTEGER, [LONG, 10**17]),
        ((LONG, Decimal("2.00")), K.INTEGER, [LONG, 2]),
        ((2**53, 0.5), K.FLOAT, [float(2**53), 0.5]),
        ((LONG, 0.5), K.KEYWORD, [str(LONG), "0.5"]),
        ((T(str(LONG)), T("0.5")), K.KEYWORD, [str(LONG), "0.5"]),
        ((Decimal("0.1234567890123456789"), Decimal("2.50")), K.KEYWORD, ["0.1234567890123456789", "2.50"]),
        # Codes are numbers only where a decimal point stands beside them.
        ((T("12E12"), T("7E5")), K.KEYWORD, ["12E12", "7E5"]),
        ((T("12E12"), T("75")), K.KEYWORD, ["12E12", "75"]),
        ((T("12E12"), T("7.5")), K.FLOAT, [12e12, 7.5]),
        ((T("12E12"), T("n/a")), K.KEYWORD, ["12E12", "n/a"]),
        ((T("NaN"), T("7.5")), K.FLOAT, [None, 7.5]),
        ((T("nan"), T("7")), K.INTEGER, [None, 7]),
        ((T("nan"), T("True")), K.BOOL, [None, True]),
        ((T("Nan"), T("Ben")), K.KEYWORD, ["Nan", "Ben"]),
        ((T("inf"), T("zero")), K.KEYWORD, ["inf", "zero"]),
    ],
)
def test_values_of_a_column_are_held_exactly(values: Any, kind: FieldType, stored: list[Any]) -> None:
    found = columns_of(*values)
    assert found.schema == {"c": kind}
    got = [found.payload({"c": value}).get("c") for value in values]
    assert [(type(value), value) for value in got] == [(type(value), value) for value in stored]


@pytest.mark.parametrize(
    ("values", "bad"),
    [
        ((T("1.5"), T("inf")), T("inf")),
        ((T("1.5"), T("1.5e999")), T("1.5e999")),
        ((0.5, cell_of(float("inf"))), cell_of(float("inf"))),
        (({"lat": 1.0, "lon": 2.0}, "Berlin"), "Berlin"),
        ((1, Unsupported("an object")), Unsupported("an object")),
        (("a", cell_of("caf\udce9")), cell_of("caf\udce9")),
        ((["a"], cell_of(["b", [1]])), cell_of(["b", [1]])),
        ((["a"], cell_of(["b", float("-inf")])), cell_of(["b", float("-inf")])),
    ],
)
def test_a_cell_that_its_column_cannot_hold_is_told_with_its_column(values: Any, bad: Any) -> None:
    found = columns_of(*values)
    found.payload({"c": values[0]})
    with pytest.raises(UnusableValue, match=r"^column 'c' holds "):
        found.payload({"c": bad})


def test_other_mixtures_are_keyword_with_a_remark_that_names_the_rows() -> None:
    kind, notes = schema_of(CellText("12"), CellText("13"), CellText("n/a"))
    assert kind is K.KEYWORD
    assert notes == [
        "column 'c' is keyword because it holds integer (row 1), keyword (row 3); "
        "`schema` c=integer changes that"
    ]


@pytest.mark.parametrize("name", ["Price (EUR)", "it's", "a b", "$HOME", 'a"b', "größe", "a=b", "plain"])
def test_the_remark_can_be_pasted_into_a_shell(name: str) -> None:
    types = ColumnTypes()
    for row, text in enumerate(("12", "13", "n/a"), start=1):
        types.see({name: CellText(text)}, row)
    [note] = types.columns({}).notes
    words = note.partition("`schema` ")[2].removesuffix(" changes that")
    assert shlex.split(words) == [f"{name}=integer"]


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (("1.5", "2", "cheap"), "float"),
        (("true", "false", "maybe"), "bool"),
        (("12", "a", "b"), "TYPE"),
        (("12", "true", "2020-01-01"), "TYPE"),
    ],
)
def test_the_remark_names_the_type_that_most_values_have(texts: tuple[str, ...], kind: str) -> None:
    found, (note,) = schema_of(*map(CellText, texts))
    assert found is K.KEYWORD
    assert f"`schema` c={kind} " in note


@pytest.mark.parametrize(
    ("value", "word"),
    [(T("12E12"), "number or code"), (Decimal("0.12345678901234567"), "decimal number that no float holds")],
)
def test_numbers_that_stay_texts_are_remarked_upon(value: object, word: str) -> None:
    kind, (note,) = schema_of(value)
    assert kind is K.KEYWORD
    assert f"holds {word} (row 1)" in note


def test_columns_of_unsupported_values_alone_are_left_out_with_a_remark() -> None:
    found = columns_of([], Unsupported("an object"), [], BadCell("a fault"))
    assert found.schema == {}
    assert found.notes == ("column 'c' is left out: it holds an object (row 2), which no payload field can",)
    assert found.payload({"c": Unsupported("an object")}) == found.payload({"c": BadCell("a fault")}) == {}


@pytest.mark.parametrize("name", ["", "a\tb", "x" * 129, "caf\udce9", "__index_level_0__"])
def test_columns_whose_names_are_no_fields_are_left_out_with_a_remark(name: str) -> None:
    types = ColumnTypes()
    types.see({name: 1, "n": 2}, 1)
    found = types.columns({})
    assert found.schema == {"n": K.INTEGER}
    assert len(found.notes) == 1
    found.notes[0].encode()
    assert found.payload({name: 1, "n": 2}) == {"n": 2}


def test_the_index_of_a_data_frame_is_a_column_to_whoever_asks_for_it() -> None:
    types = ColumnTypes()
    types.see({"__index_level_0__": 1}, 1)
    assert types.columns({}, ["__index_level_0__"]).schema == {"__index_level_0__": K.INTEGER}


def test_a_given_type_is_taken_as_it_is() -> None:
    assert schema_of(CellText("12"), CellText("n/a"), given={"c": K.INTEGER}) == (K.INTEGER, [])
    assert schema_of("a b", given={"c": K.TEXT}) == (K.TEXT, [])


def test_columns_without_values_have_no_type() -> None:
    assert schema_of([], []) == (None, [])
    assert columns_of([]).payload({"c": []}) == {"c": []}


SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=()), max_size=8),
    st.sampled_from(["12", "1.5", "true", "2024-05-01", "007", "n/a", "1e3", "nan", "-inf", "1.0"]).map(T),
    st.from_regex(r"\A-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?\Z").map(T),
    st.dates().map(str),
    st.fixed_dictionaries({"lat": st.floats(-100, 100), "lon": st.none() | st.integers(-200, 200)}),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
CELLS = st.one_of(SCALARS, st.lists(st.one_of(st.none(), SCALARS), max_size=3)).map(cell_of)
ROWS = st.lists(st.dictionaries(st.sampled_from("abc"), CELLS, max_size=3), max_size=8)


def present(cells: dict[str, Any]) -> dict[str, Any]:
    return {name: cell for name, cell in cells.items() if cell is not None}


@given(ROWS, st.randoms(), st.dictionaries(st.sampled_from("abc"), st.sampled_from(FieldType), max_size=2))
def test_every_payload_fits_the_schema_found_and_row_order_does_not_matter(
    rows: list[dict[str, Any]], order: random.Random, given: dict[str, FieldType]
) -> None:
    rows = [present(cells) for cells in rows]
    types, shuffled = ColumnTypes(), ColumnTypes()
    for number, cells in enumerate(rows):
        types.see(cells, number)
    for cells in order.sample(rows, len(rows)):
        shuffled.see(cells, 1)
    found = types.columns(given)
    assert found.schema == shuffled.columns(given).schema
    assert list(found.schema) == sorted(found.schema)
    for cells in rows:
        try:
            payload = found.payload(cells)
        except UnusableValue as error:
            str(error).encode()
            continue
        check_payload(payload, found.schema, item="x")
        assert payload.keys() <= cells.keys() - found.left_out


@given(st.lists(st.one_of(st.integers(-(2**66), 2**66), st.decimals(-(2**66), 2**66, places=3)), min_size=1))
def test_whole_numbers_and_decimals_are_stored_exactly_or_refused(values: list[Any]) -> None:
    found = columns_of(*values)
    for value in values:
        stored: Any = found.payload({"c": value})["c"]
        same = float(stored) == float(value) if isinstance(stored, float) else Decimal(stored) == value
        assert same
        if isinstance(stored, float):
            assert stored == value or Decimal(repr(stored)) == value


def test_json_is_read_without_losing_digits() -> None:
    text = '{"a": 9007199254740993.0, "b": 1e22, "c": NaN, "d": 1e400, "e": -Infinity, "f": {"x": 1, "x": 2}}'
    parsed = parse_json(text)
    assert isinstance(parsed, dict)
    cells = {name: cell_of(value) for name, value in parsed.items()}
    assert (cells["a"], cells["b"], cells["c"]) == (Decimal("9007199254740993.0"), 1e22, None)
    assert all(isinstance(cells[name], BadCell) for name in "def")
    assert isinstance(parse_json("9" * 5000), BadCell)
    assert isinstance(parse_json('{"a": 1, "b": 2, "a": 3}'), BadCell)
    for depth in (100, 950, 100_000):
        for opening, closing in (("[", "]"), ('{"lat":1,"lon":', "}"), ('{"a":', "}")):
            deep = f"{opening * depth}1{closing * depth}"
            try:
                cell = cell_of(parse_json(deep))
            except ValueError:
                continue
            assert isinstance(cell, (BadCell, Unsupported))


@pytest.mark.parametrize(
    ("cell", "kind", "value"),
    [
        (T("12"), K.INTEGER, 12),
        (T("12.0"), K.INTEGER, 12),
        (3.0, K.INTEGER, 3),
        (Decimal("3.00"), K.INTEGER, 3),
        (T(" 12 "), K.FLOAT, 12.0),
        (T("12E1"), K.FLOAT, 120.0),
        (Decimal("0.1234567890123456789"), K.FLOAT, 0.12345678901234568),
        (T("True"), K.BOOL, True),
        (T("2024-05-01 "), K.DATETIME, "2024-05-01"),
        (T("12"), K.KEYWORD, "12"),
        (T("1.50"), K.KEYWORD, "1.50"),
        (Decimal("1.50"), K.KEYWORD, "1.50"),
        (T("NaN"), K.KEYWORD, "NaN"),
        (T("52.5, 13.4"), K.GEO, {"lat": 52.5, "lon": 13.4}),
        (3, K.FLOAT, 3.0),
        (3, K.KEYWORD, "3"),
        (True, K.KEYWORD, "true"),
        (["a", 1], K.KEYWORD, ["a", "1"]),
        ([1, 2.5], K.FLOAT, [1.0, 2.5]),
    ],
)
def test_values_take_the_type_that_is_given(cell: Any, kind: K, value: Any) -> None:
    (got,) = columns_of(given={"c": kind}).payload({"c": cell}).values()
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        (T("n/a"), K.INTEGER),
        (T("1_000"), K.INTEGER),
        (T("1.5"), K.INTEGER),
        (1.5, K.INTEGER),
        (2**63, K.INTEGER),
        (True, K.INTEGER),
        (T("9" * 5000), K.INTEGER),
        (T("1e999999999"), K.INTEGER),
        (T("maybe"), K.BOOL),
        (1, K.BOOL),
        (T("Berlin"), K.GEO),
        (T("95,13"), K.GEO),
        (10**400, K.FLOAT),
        (LONG, K.FLOAT),
        (T(str(LONG)), K.FLOAT),
        (T("infinity"), K.FLOAT),
        (T("yesterday"), K.DATETIME),
        ({"lat": 1.0, "lon": 2.0}, K.KEYWORD),
        ([1, "x"], K.INTEGER),
    ],
)
def test_what_a_given_type_cannot_hold_exactly_is_refused(cell: Any, kind: K) -> None:
    with pytest.raises(UnusableValue, match=r"column 'c' holds .*; expected "):
        columns_of(given={"c": kind}).payload({"c": cell})
