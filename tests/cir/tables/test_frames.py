"""Items out of data frames. Those of pandas and polars have tests of their own, with the clients."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

import cir


def frame(**columns: Any) -> Any:
    return pa.table({"id": [f"i{row}" for row in range(len(next(iter(columns.values()))))], **columns})


def test_the_parts_of_an_item_are_columns() -> None:
    table = pa.table(
        {
            "sku": [7, 8],
            "photo": [b"one", None],
            "vector": [None, [1.0, 2.0]],
            "where": ["a.jpg", None],
            "price": [1.5, None],
        }
    )
    items = cir.FrameItems(
        table, id="sku", image="photo", features="vector", location="where", model_fingerprint="clip-1"
    )
    assert len(items) == 2
    assert items.schema == {"price": "float"}
    for _ in range(2):  # as often as wanted
        first, second = (item.message() for item in items)
        assert (first.item.id, first.content, first.item.image) == ("7", b"one", "a.jpg")
        assert (second.item.id, second.item.features.dimension, second.item.image) == ("8", 2, "")
        assert second.item.features.model_fingerprint == "clip-1"
        assert (set(first.item.payload.fields), set(second.item.payload.fields)) == ({"price"}, set())


def test_types_that_are_given_win() -> None:
    items = cir.FrameItems(
        frame(price=[1.0, 2.0], note=["2024-05-01", None]),
        schema={"price": "integer", "note": "keyword", "x": "geo"},
    )
    assert items.schema == {"note": "keyword", "price": "integer"}
    assert [item.payload for item in items] == [{"price": 1, "note": "2024-05-01"}, {"price": 2}]
    assert cir.FrameItems(frame(note=["2024-05-01"])).schema == {"note": "datetime"}


@pytest.mark.parametrize(
    ("column", "schema", "word"),
    [
        ([1.0, float("inf")], None, "row 1: column 'x' holds inf; expected a finite number"),
        ([b"a"], None, "row 0: column 'x' holds a value of the type binary, which no payload field can"),
        ([Decimal("1.12345678901234567890123")], None, "decimal number that no float holds"),
        ([{"a": 1}], None, "struct"),
        ([1.5], "integer", r"row 0: column 'x' holds 1\.5; expected a whole number"),
        (["a"], "number", "schema.x is 'number'; it is one of bool"),
        ([{"lat": 91.0, "lon": 0.0}], None, "row 0: column 'x' holds a place whose"),
        (pa.array([2**63], pa.uint64()), "integer", "row 0: column 'x' holds 9223372036854775808"),
        ([2**53 + 1], "float", "only if a float of 64 bits holds it exactly"),
    ],
)
def test_what_has_no_exact_form_is_refused_with_row_and_column(column: Any, schema: Any, word: str) -> None:
    with pytest.raises(cir.InvalidArgument, match=word):
        cir.FrameItems(frame(x=column), schema={"x": schema} if schema else None)
    assert [item.payload for item in cir.FrameItems(frame(x=column), fields=[])] == [{}] * len(column)


@pytest.mark.parametrize(
    ("ids", "word"),
    [
        (["a", "a"], "row 1: column 'id' holds 'a', the id of row 0 too"),
        (["1", None], "row 1: column 'id' holds nothing; an id is"),
        ([1.0], r"holds 1\.0; an id is a text or an integer"),
        ([date(2024, 1, 1), True][1:], "holds True; an id is"),
        (["a\nb"], "no control characters"),
    ],
)
def test_ids_that_are_none_are_refused(ids: Any, word: str) -> None:
    with pytest.raises(cir.InvalidArgument, match=word):
        cir.FrameItems(pa.table({"id": ids}))


def test_columns_that_are_not_there_are_named() -> None:
    with pytest.raises(cir.InvalidArgument, match="no column 'sku'; its columns are id, x"):
        cir.FrameItems(frame(x=[1]), id="sku")
    with pytest.raises(cir.InvalidArgument, match="several columns 'x'"):
        cir.FrameItems(
            pa.Table.from_arrays([pa.array(["a"]), pa.array([1]), pa.array([1])], ["id", "x", "x"])
        )
    with pytest.raises(cir.InvalidArgument, match="no column 'y'"):
        cir.FrameItems(frame(x=[1]), fields=["y"])
    with pytest.raises(cir.InvalidArgument, match="a dict is no data frame"):
        cir.FrameItems({"id": ["a"]})
    with pytest.raises(cir.InvalidArgument, match="column 'where' holds 3; a location is a text"):
        cir.FrameItems(frame(where=[3]), location="where")


def test_whatever_hands_out_arrow_is_a_frame() -> None:
    class Stream:
        def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
            return frame(x=[1, 2]).__arrow_c_stream__(requested_schema)

    for given in (
        Stream(),
        frame(x=[1, 2]).to_batches()[0],
        pa.concat_tables([frame(x=[1]), pa.table({"id": ["i1"], "x": [2]})]),
    ):
        assert [item.payload for item in cir.FrameItems(given)] == [{"x": 1}, {"x": 2}]
