"""Cells as payload values."""

from __future__ import annotations

from typing import Any

import pytest

from indexer.cell_values import payload_of
from indexer.rows import CellText
from vector_store.types import FieldType as K

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
