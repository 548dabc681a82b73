from __future__ import annotations

import json
from pathlib import Path

import pytest

from cir.commands.turns_text import all_turns, read_turns
from cir.failure import Failure
from cir.turn import Turn


def test_a_file_of_turns(tmp_path: Path) -> None:
    path = tmp_path / "turns.json"
    path.write_text(
        json.dumps(
            [
                {"image": "a.jpg", "text": "in red", "text_weight": 0.3},
                {"text": "longer", "like": ["x"], "dislike": ["y", "z"]},
                {"item": "q"},
            ]
        )
    )
    first, second, third = read_turns(path)
    assert (first.image, first.text, first.text_weight) == (tmp_path / "a.jpg", "in red", 0.3)
    assert (second.image, second.liked, second.disliked) == (None, ["x"], ["y", "z"])
    assert third.item == "q"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("{}", "expected a list of objects"),
        ("[1]", "expected a list of objects"),
        ('[{"words": "x"}]', "turn 1: unknown words; expected dislike, image, item, like, text, text_weight"),
        ('[{}, {"text": 3}]', "turn 2: text must be a string"),
        ('[{"like": "a"}]', "like must be a list of item ids"),
        ('[{"text_weight": "half"}]', "text_weight must be a number"),
        ('[{"text_weight": true}]', "text_weight must be a number"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "turns.json"
    path.write_text(content)
    with pytest.raises(Failure, match=message):
        read_turns(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"none\.json cannot be read: No such file"):
        read_turns(tmp_path / "none.json")


def test_the_order_is_file_options_then() -> None:
    turns = all_turns([Turn(item="a")], Turn(text="b"), ["c", "d"])
    assert [turn.item or turn.text for turn in turns] == ["a", "b", "c", "d"]
    assert [turn.text for turn in all_turns([Turn(text="a")], Turn(), [])] == ["a"]


def test_nothing_to_search_for_is_wrong_usage() -> None:
    with pytest.raises(Failure, match="nothing to search for") as raised:
        all_turns([], Turn(text_weight=0.5), [])
    assert raised.value.exit_code == 2
