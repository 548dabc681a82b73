"""Click logs as queries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from combiner_training.adapt.clicks import MOST_TIMES, read_clicks
from combiner_training.adapt.columns import AdaptError

NAMES = ("a", "b", "c", "d")


def log(folder: Path, *rows: Any) -> Path:
    path = folder / "clicks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def click(reference: str = "a", clicked: str = "b", text: str = "in red", **more: Any) -> dict[str, Any]:
    return {"reference": reference, "text": text, "clicked": clicked, **more}


def test_a_click_is_a_query_and_more_clicks_weigh_more(tmp_path: Path) -> None:
    rows = [click(shown=["b", "c", "x"]), *[click("c", "d")] * 4, *[click("d", "a")] * 1000]
    found = read_clicks(log(tmp_path, *rows), NAMES, ())

    times = [sum(query.reference == name for query in found.queries) for name in ("a", "c", "d")]
    assert times == [1, 3, MOST_TIMES]
    assert found.queries[0].targets == ("b",)
    assert found.queries[0].group == ("a", "b", "c")
    assert len({query.id for query in found.queries}) == len(found.queries)


def test_rows_that_teach_nothing_are_counted(tmp_path: Path) -> None:
    rows = [
        {"text": "in red"},
        click(),
        click("x"),
        click(clicked="a"),
        click(text=" "),
        click(clicked="d"),
        click(text="x" * 2000),
    ]
    found = read_clicks(log(tmp_path, *rows), NAMES, {"d"})

    assert len(found.queries) == 1
    assert found.counts == {
        "rows": 7,
        "without a reference item, a text or a click": 1,
        "with unknown ids": 1,
        "that clicked the reference itself": 1,
        "without a text of 1 to 1,000 characters": 2,
        "kept for the test": 1,
        "queries": 1,
    }


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([click("x"), click("y"), click()], r"2 of 3 rows .* \(first 'x' in .*line 1\)"),
        ([], "0 of 0 rows"),
        ([{**click(), "text": 3}], "line 1, text is a JSON number; expected a string"),
        ([click(shown="b")], "shown is a JSON string; expected an array"),
    ],
)
def test_a_log_of_another_catalog_is_refused(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(AdaptError, match=message):
        read_clicks(log(tmp_path, *rows), NAMES, ())
