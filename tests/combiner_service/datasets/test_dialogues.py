"""Dialogues as JSON Lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from combiner_service.datasets.dialogues import Dialogue, DialogueTurn, load_dialogues
from combiner_service.datasets.split import DatasetError
from tests.combiner_service.datasets.layouts import write_lines


def _row(**changes: Any) -> dict[str, Any]:
    turns = [{"text": "in red", "targets": ["b.jpg"]}, {"text": "longer", "targets": ["c.jpg", "d.jpg"]}]
    return {"id": "1", "split": "val", "reference": "a.jpg", "turns": turns} | changes


def test_turns_come_in_order_with_every_target(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "d.jsonl", [_row(), _row(id="2", split="test")])
    turns = (DialogueTurn("in red", ("b.jpg",)), DialogueTurn("longer", ("c.jpg", "d.jpg")))
    assert load_dialogues(path, "val") == (Dialogue("1", "a.jpg", turns),)
    assert [dialogue.id for dialogue in load_dialogues(path)] == ["1", "2"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (_row(turns=[]), "line 1 has no turns"),
        (_row(turns=[{"targets": []}]), "line 1, turn 1 has no field 'text'"),
        (_row(turns=[{"text": "x", "targets": ["/b"]}]), "line 1, turn 1, targets is '/b'"),
        (_row(split="train"), "has no dialogues in split 'val'"),
        (_row(id=1), "line 1, id is a JSON number"),
    ],
)
def test_broken_rows_are_told(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load_dialogues(write_lines(tmp_path / "d.jsonl", [row]), "val")
