"""Multi-turn FashionIQ as dialogues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from combiner_training.datasets.base import DatasetError, Dialogue, DialogueTurn
from combiner_training.datasets.triplets import load_dialogues
from tests.combiner_training.datasets.layouts import write_json


def session(*references: tuple[str, str, str], target: str) -> dict[str, Any]:
    steps = [[f"http://images/{name}.jpg", [first, second], name] for name, first, second in references]
    return {"target": [f"http://images/{target}.jpg", target], "reference": steps}


def test_each_turn_leads_to_the_next_reference_and_the_last_to_the_target(tmp_path: Path) -> None:
    sessions = [
        session(("B1", "is red", " longer."), ("B2", "has dots", "plain"), target="B3"),
        session(("B4", "is blue", ""), target="B1"),
    ]
    path = write_json(tmp_path / "dress.val.json", sessions)
    first = DialogueTurn("Is red and longer", ("B2",)), DialogueTurn("Has dots and plain", ("B3",))
    assert load_dialogues(path, "val") == (
        Dialogue("dress.val/1", "B1", first),
        Dialogue("dress.val/2", "B4", (DialogueTurn("Is blue and ", ("B1",)),)),
    )
    assert load_dialogues(path) == load_dialogues(path, "val")


@pytest.mark.parametrize(
    ("sessions", "message"),
    [
        ([], "has no dialogues"),
        ([{"target": ["u", "B1"], "reference": []}], "entry 1 has no turns"),
        ([{"target": ["B1"], "reference": [["u", ["a", "b"], "B2"]]}], "target has 1 parts"),
        ([{"target": ["u", "B1"], "reference": [["u", ["a"], "B2"]]}], "turn 1 has 1 captions; expected 2"),
        ([{"target": ["u", "B1"], "reference": [["u", "B2"]]}], "turn 1 is of 2 parts"),
        ([{"target": ["u", "../B1"], "reference": [["u", ["a", "b"], "B2"]]}], "is '../B1'"),
    ],
)
def test_broken_sessions_are_told(tmp_path: Path, sessions: list[Any], message: str) -> None:
    path = write_json(tmp_path / "dress.val.json", sessions)
    with pytest.raises(DatasetError, match=message):
        load_dialogues(path, "val")


def test_a_file_of_another_split_is_refused(tmp_path: Path) -> None:
    path = write_json(tmp_path / "dress.train.json", [session(("B1", "a", "b"), target="B2")])
    with pytest.raises(DatasetError, match="has dialogues of split 'train'; expected 'val'"):
        load_dialogues(path, "val")
