"""Output of commands: answers as text, and the progress of long work."""

from __future__ import annotations

import io
import json
from dataclasses import fields

import pytest

from cir.models import Contribution, Explanation, SearchAnswer, Timings, TurnExplanation
from cir.search.v1 import search_pb2
from cir_cli.output import (
    WorkProgress,
    answer_document,
    explanation_text,
    print_answer,
    print_json,
    timings_text,
)
from tests.cir import messages


def test_turns_shares_and_combiner_are_told() -> None:
    turns = (
        TurnExplanation("composed", 0.641, contribution=Contribution(0.3, 0.1, 0.75, False)),
        TurnExplanation("continued", contribution=Contribution(0.01, 0.3, 0.032, True)),
        TurnExplanation("continued"),
        TurnExplanation("feedback_only"),
    )
    text = explanation_text(Explanation(turns, "sum", "v3", "clip-1", True))
    assert text == (
        "composed (image 25 %, text 75 %; lambda 0.64), then continued (image 97 %, text 3 %; the text moved "
        "little), then continued, then feedback only by sum; version v3, exact"
    )
    alone = Explanation((TurnExplanation("text_only"),), "", "v3", "clip-1", False)
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
    turns = (TurnExplanation("text_only"),)
    explanation = Explanation(turns, "", "v3", "clip-1", exact, unindexed, "recommend")
    assert explanation_text(explanation) == f"text only, feedback by recommend; version v3{said}"


def test_explained_results_have_columns_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    response = messages.search_response(messages.item("b", price=2.5, colour="red", kind="dress"))
    response.results[0].explanation.CopyFrom(
        search_pb2.ResultExplanation(
            text_similarity=0.25, image_similarity=0.5, changed_fields=["colour"], kept_fields=["kind"]
        )
    )
    response.explanation.reference.CopyFrom(messages.item("a", colour="blue", kind="dress"))
    print_answer(SearchAnswer.read(response))
    header, row = (" ".join(line.split()) for line in capsys.readouterr().out.splitlines()[:2])
    assert header.startswith("rank score id to text to image changed kept payload")
    assert " b 0.25 0.50 colour: blue -> red kind " in row


def test_words_that_were_not_read_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    response = messages.search_response()
    turn = search_pb2.TurnExplanation(kind=search_pb2.TURN_KIND_COMPOSED, text_tokens=120, read_tokens=77)
    response.explanation.turns.append(turn)
    print_answer(SearchAnswer.read(response))
    printed = " ".join(capsys.readouterr().out.split())
    assert "NOTE: the text of turn 2 has 120 tokens, and the model reads 77;" in printed
    response.explanation.turns.pop()
    print_answer(SearchAnswer.read(response))
    assert "NOTE" not in capsys.readouterr().out


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


def test_where_nobody_looks_on_a_line_comes_now_and_then_and_at_the_end() -> None:
    now = [0.0]
    out = io.StringIO()
    progress = WorkProgress(file=out, clock=lambda: now[0])
    progress.start("epochs", 3)
    for done, time, note in ((1, 1.0, "early"), (2, 11.0, "later"), (3, 12.0, "")):
        now[0] = time
        progress.advance(done, note)
    progress.stop()
    assert out.getvalue() == "epochs: 2/3, later\nepochs: 3/3\n"


def test_a_terminal_gets_a_bar() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    progress = WorkProgress(file=out)
    progress.start("images", 2)
    progress.advance(2, "1 without features")
    progress.stop()
    assert "images" in out.getvalue()
    assert "2/2" in out.getvalue()


def test_quiet_says_nothing() -> None:
    out = io.StringIO()
    progress = WorkProgress(quiet=True, file=out)
    progress.start("images", 1)
    progress.advance(1)
    progress.stop()
    assert out.getvalue() == ""


def test_every_field_of_a_result_is_in_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    answer = SearchAnswer.read(messages.search_response(messages.item("a", price=2.5)))
    print_json(answer_document(answer))
    document = json.loads(capsys.readouterr().out)
    assert document["results"] == [
        {"rank": 1, "score": pytest.approx(0.9), "id": "a", "payload": {"price": 2.5}, "image": ""}
    ]
    assert set(document) == {each.name for each in fields(SearchAnswer)}
    assert set(document["timings"]) == {each.name for each in fields(Timings)}
