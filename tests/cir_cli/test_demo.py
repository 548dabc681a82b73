"""The demo's queries have answers in the catalog that they are asked of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cir_cli.demo_queries import DemoQuery, demo_queries
from garments.catalog import make_catalog

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "catalog"
    make_catalog(folder, size=600, seed=1, image_size=(18, 24))
    return folder


@pytest.fixture(scope="module")
def queries(folder: Path) -> list[DemoQuery]:
    return list(demo_queries("garments", folder))


def test_every_query_has_a_right_answer_in_the_catalog(folder: Path, queries: list[DemoQuery]) -> None:
    rows = {row["id"]: row for row in map(json.loads, (folder / "garments.jsonl").read_text().splitlines())}
    assert len(queries) == 4
    for query in queries:
        assert query.right
        assert query.right <= rows.keys()
        assert {turn.item for turn in query.turns if turn.item} <= rows.keys()
        # Nothing that the query starts from answers it.
        assert not query.right & {turn.item for turn in query.turns}
    assert all(rows[item]["price"] < 60 for item in queries[0].right)
    assert {rows[item]["kind"] for item in queries[1].right} == {"hoodie"}
    assert {f"in {rows[item]['colour']}" for item in queries[1].right} == {queries[1].turns[0].text}


def test_the_dialogue_has_three_turns_that_continue(queries: list[DemoQuery]) -> None:
    first, *rest = queries[3].turns
    assert first.item
    assert len(rest) == 2
    assert all(turn.text and not turn.item for turn in (first, *rest)[1:])


def test_the_code_that_is_shown_names_what_is_asked(queries: list[DemoQuery]) -> None:
    for query in queries:
        assert all(turn.text in query.code for turn in query.turns)
