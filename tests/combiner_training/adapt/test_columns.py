"""Columns as attributes: what is taken, what is left out, and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from combiner_training.adapt.columns import (
    ABSENT,
    UNKNOWN,
    AdaptError,
    ColumnWords,
    find_title,
    infer_absent,
    main_attributes,
    read_column,
    read_columns,
)
from tests.combiner_training.adapt.shop import payloads

ROWS = payloads()


def reason(name: str, cells: list[Any]) -> str:
    attribute, report = read_column(name, [{} if cell is None else {name: cell} for cell in cells])
    assert attribute is None
    assert report.role == "left out"
    return report.reason


def test_columns_that_items_share_are_attributes_and_others_say_why_not() -> None:
    attributes, reports = read_columns(ROWS)

    assert [one.name for one in attributes] == ["colour", "kind", "pattern", "price", "length"]
    assert {one.name: one.reason for one in reports} == {
        "sku": "600 values for 600 items; 0 items have one that 3 share",
        "title": pytest.approx(next(one.reason for one in reports if one.name == "title")),
    }


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["red"] * 600, "one value everywhere: 'red' in 600 of 600 items"),
        ([f"v{number}" for number in range(100_000)], "100,000 values for 100,000 items"),
        (["word " * 2_000] * 300 + ["another " * 1_300] * 300, "texts of"),
        ([None] * 590 + ["red"] * 10, "10 of 600 items have a single value"),
        ([["red", "blue"]] * 400 + ["red"] * 200, "400 of 600 items have several values"),
        ([float("nan")] * 600, "0 of 600 items have a single value"),
        ([{"lat": 1.0, "lon": 2.0}] * 600, "0 of 600 items have a single value"),
    ],
)
def test_a_column_that_teaches_nothing_is_told_with_numbers(cells: list[Any], expected: str) -> None:
    assert reason("x", cells).startswith(expected)


def test_unknown_doubled_and_rare_values_are_unknown() -> None:
    cells = ["Red", "red_", "n/a", "", None, ["red", "blue"], ["blue"], "odd", *["red", "blue"] * 300]
    attribute, report = read_column("colour", [{"colour": cell} for cell in cells])

    assert attribute is not None
    assert attribute.values == ("blue", "red")
    assert attribute.codes[:8].tolist() == [1, 1, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, 0, UNKNOWN]
    assert report.doubled == 1


def test_numbers_are_bins_in_their_order_and_few_numbers_are_values() -> None:
    bins, _ = read_column("heel", [{"heel": number / 10} for number in range(400)])
    few, _ = read_column("size", [{"size": 36 + number % 4} for number in range(400)])

    assert bins is not None
    assert few is not None
    assert bins.ordered
    assert np.bincount(bins.codes).tolist() == [100, 100, 100, 100]
    assert few.values == ("36", "37", "38", "39")


def test_a_column_has_words_of_its_own() -> None:
    words = ColumnWords("colour", {"BLK": "black"})
    attribute, _ = read_column("farbe_1", [{"farbe_1": code} for code in ("BLK", "RED") * 50], words)

    assert attribute is not None
    assert (attribute.word, attribute.values) == ("colour", ("black", "red"))


def test_a_column_that_says_the_same_is_left_out() -> None:
    rows = [{**row, "kind_id": f"k-{row['kind']}"} for row in ROWS]
    attributes, reports = read_columns(rows)

    assert "kind_id" not in {one.name for one in attributes}
    assert "says the same as 'kind'" in {one.reason for one in reports}


def test_named_columns_must_be_there_and_of_use() -> None:
    with pytest.raises(AdaptError, match="no column 'brand'; it has: colour, kind"):
        read_columns(ROWS, columns=["brand"])
    with pytest.raises(AdaptError, match="'sku' cannot be used: 600 values for 600 items"):
        read_columns(ROWS, columns=["sku"])
    with pytest.raises(AdaptError, match="no column 'brand'"):
        read_columns(ROWS, exclude=["brand"])


def test_what_a_kind_does_not_have_is_told_from_what_is_unknown() -> None:
    rows = [dict(row) for row in ROWS]
    for row in rows[::3]:
        row.pop("length", None)
    attributes = infer_absent(read_columns(rows)[0])
    length = next(one for one in attributes if one.name == "length")

    assert length.head == "kind"
    for code, row in zip(length.codes.tolist(), rows, strict=True):
        if row["kind"] not in ("skirt", "coat"):
            assert code == ABSENT
        else:
            assert code == UNKNOWN if "length" not in row else code >= 0
    assert "length" not in {one.name for one in main_attributes(attributes)}


def test_a_title_is_found_by_its_name() -> None:
    assert find_title(ROWS)[0] == "title"
    assert find_title([{"kind": "dress"}] * 5)[0] == ""
    with pytest.raises(AdaptError, match="'price' has texts in less than half of 600 items"):
        find_title(ROWS, title="price")


CELLS = st.one_of(
    st.none(),
    st.text(max_size=12),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.lists(st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=2), st.floats(), max_size=2),
)


@given(st.lists(CELLS, min_size=1, max_size=80))
def test_every_column_is_an_attribute_or_says_why_not(cells: list[Any]) -> None:
    attribute, report = read_column("x", [{"x": cell} for cell in cells])

    if attribute is None:
        assert report.reason
    else:
        assert len(attribute.codes) == len(cells)
        assert attribute.codes.max() < len(attribute.values)
        assert attribute.codes.min() >= UNKNOWN
