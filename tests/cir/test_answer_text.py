from __future__ import annotations

import pytest

from cir.commands.answer_text import explanation_text, print_answer, timings_text
from cir.search.v1 import search_pb2
from cir.search_answer import Explanation, SearchAnswer, Timings, TurnExplanation
from tests.cir import messages


def test_turns_weights_and_combiner_are_told() -> None:
    turns = (
        TurnExplanation("composed", 0.25),
        TurnExplanation("continued", 0.5),
        TurnExplanation("feedback_only", 0),
    )
    text = explanation_text(Explanation(turns, "sum", "v3", "clip-1", True))
    assert text == (
        "composed (text weight 0.25), then continued (text weight 0.50), then feedback only by sum; "
        "version v3, exact"
    )
    alone = Explanation((TurnExplanation("text_only", 1.0),), "", "v3", "clip-1", False)
    assert explanation_text(alone) == "text only; version v3"


@pytest.mark.parametrize(
    ("exact", "unindexed", "said"),
    [
        (True, 40, ", exact"),
        (False, 0, ", approximate"),
        (False, 3, ", approximate, 3 items are in no index yet"),
        (False, None, ""),
    ],
)
def test_how_exact_an_answer_is_is_told(exact: bool, unindexed: int | None, said: str) -> None:
    turns = (TurnExplanation("text_only", 1.0),)
    explanation = Explanation(turns, "", "v3", "clip-1", exact, unindexed, "recommend")
    assert explanation_text(explanation) == f"text only, feedback by recommend; version v3{said}"


def test_only_stages_that_happened_are_told() -> None:
    assert timings_text(Timings(0.02, None, None, 0.001, 0.0021, 0.03)) == (
        "30.0 ms (text 20.0, combine 1.0, store 2.1)"
    )
    assert timings_text(Timings(None, None, None, None, None, None)) == "unknown time"


def test_an_answer_on_a_pipe_is_not_folded(capsys: pytest.CaptureFixture[str]) -> None:
    long_id = "folder/" * 20 + "[bold]x.jpg"
    print_answer(SearchAnswer.read(messages.search_response(messages.item(long_id, price=2.5, colour="red"))))
    printed = capsys.readouterr().out
    assert f" {long_id} " in printed
    assert "price=2.5" in printed
    assert "0.9000" in printed


def test_no_results_are_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_answer(SearchAnswer.read(search_pb2.SearchResponse()))
    assert "no item passes" in capsys.readouterr().out
