"""Results and items as tables."""

from __future__ import annotations

import string
import sys
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cir
from cir.models import Item, Result, SearchAnswer
from cir.payload import GeoPoint, from_payload, to_payload
from cir.vectors import Features
from tests.cir import messages

SINGLE: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    # Letters: what reads like a moment or is white space alone is another thing in a table.
    "text": st.text(string.ascii_letters, min_size=1),
    "moment": st.datetimes(datetime(1800, 1, 1), datetime(2200, 1, 1)).map(lambda d: d.replace(tzinfo=UTC)),
    "place": st.builds(GeoPoint, st.floats(-90, 90), st.floats(-180, 180)),
}
FIELDS = SINGLE | {f"{name}s": st.lists(one, min_size=1, max_size=3) for name, one in SINGLE.items()}
PAYLOADS = st.lists(st.fixed_dictionaries({}, optional=FIELDS), min_size=1, max_size=4)


@given(PAYLOADS)
def test_a_table_holds_every_value_exactly(payloads: list[dict[str, Any]]) -> None:
    """Out and in again; so it is with what an answer holds, which has come over the wire."""
    items = [Item(str(row), from_payload(to_payload(payload))) for row, payload in enumerate(payloads)]
    table = cir.to_arrow(items)
    assert set(table.column_names) == {"id", "image"} | {name for payload in payloads for name in payload}
    given = cir.FrameItems(table, fields=[name for name in table.column_names if name not in ("id", "image")])
    assert [item.payload for item in given] == [item.payload for item in items]
    kinds = {"boolean": "bool", "text": "keyword", "moment": "datetime", "place": "geo"}
    for name, kind in given.schema.items():
        wanted = kinds.get(name.removesuffix("s"), name.removesuffix("s"))
        assert kind == wanted


def test_results_have_rank_and_score() -> None:
    answer = SearchAnswer.read(
        messages.search_response(messages.item("a", "a.jpg", price=3), messages.item("b", colour="red"))
    )
    table = answer.to_arrow()
    assert table.to_pylist() == [
        {
            "id": "a",
            "rank": 1,
            "score": answer.results[0].score,
            "image": "a.jpg",
            "colour": None,
            "price": 3,
        },
        {
            "id": "b",
            "rank": 2,
            "score": answer.results[1].score,
            "image": None,
            "colour": "red",
            "price": None,
        },
    ]
    assert answer.to_arrow(fields=["price"]).column_names == ["id", "rank", "score", "image", "price"]
    assert answer.to_arrow(fields=["none"]).column("none").to_pylist() == [None, None]


def test_features_are_a_column() -> None:
    items = [Item("a", {}, features=Features(np.array([1, 2], np.float32))), Item("b", {})]
    assert cir.to_arrow(items).column("features").to_pylist() == [[1, 2], None]


def test_integers_among_floats_are_floats_where_that_is_exact() -> None:
    assert cir.to_arrow([Item("a", {"x": 1}), Item("b", {"x": 0.5})]).column("x").to_pylist() == [1.0, 0.5]


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        (2**53 + 1, 0.5, r"integer \(row 0: 9007199254740993\), float \(row 1: 0.5\)"),
        (1, "a", r"integer \(row 0: 1\), text \(row 1: 'a'\)"),
        (1, [1], "list of integer"),
        (True, 1, "bool"),
        ([], "a", "list of"),
    ],
)
def test_what_no_column_holds_is_refused_with_its_rows(first: Any, second: Any, word: str) -> None:
    with pytest.raises(cir.InvalidArgument, match=word):
        cir.to_arrow([Item("a", {"x": first}), Item("b", {"x": second})])
    cir.to_arrow([Item("a", {"x": first}), Item("b", {"x": second})], fields=[])


def test_a_field_with_the_name_of_a_column_is_refused() -> None:
    result = Result("a", 1.0, 1, {"score": 3})
    with pytest.raises(cir.InvalidArgument, match="called 'score'"):
        cir.to_arrow([result])
    assert cir.to_arrow([Item("a", {"score": 3})]).column("score").to_pylist() == [3]


def test_no_results_are_a_table_too() -> None:
    assert cir.to_arrow([]).schema.names == ["id", "image"]
    assert cir.to_arrow([]).schema.field("id").type == pa.string()


def test_without_pyarrow_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match=r"composed-image-retrieval-client\[frames\]"):
        cir.to_arrow([])
    with pytest.raises(ModuleNotFoundError, match="need pyarrow"):
        cir.FrameItems([])
