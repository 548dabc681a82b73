"""Progress that is shown, and rejects that are listed."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from indexer.errors import SourceError
from indexer.items import Change
from indexer.progress import BarProgress, PlainProgress, SilentProgress, progress_for
from indexer.rejects import Reject, RejectsFile
from indexer.report import Tally


def test_plain_lines_come_now_and_then_and_at_the_end() -> None:
    now = 100.0
    out = io.StringIO()
    progress = PlainProgress(out, every_s=10, clock=lambda: now)
    progress.start(200)
    for second in range(1, 41):
        now = 100.0 + second
        progress.advance(Tally(changes=Counter({Change.NEW: second * 5 - 1}), rejects=Counter(X=1)))
    progress.stage("verifying")
    progress.stop()
    assert out.getvalue().splitlines() == [
        "200 items to index",
        "50/200 items, 1 rejected, 5.0 items/s, 30 s left",
        "100/200 items, 1 rejected, 5.0 items/s, 20 s left",
        "150/200 items, 1 rejected, 5.0 items/s, 10 s left",
        "200/200 items, 1 rejected, 5.0 items/s, 0 s left",
        "verifying",
    ]


def test_a_terminal_gets_a_bar_with_counts_and_rejects() -> None:
    out = io.StringIO()
    progress = BarProgress(Console(file=out, force_terminal=True, width=120))
    progress.start(10)
    progress.advance(Tally(changes=Counter({Change.NEW: 7}), rejects=Counter(X=3)))
    progress.stage("verifying [bold]")
    progress.stop()
    assert "10/10" in out.getvalue()
    assert "3 rejected" in out.getvalue()
    assert "verifying [bold]" in out.getvalue()


def test_stopping_a_bar_that_never_started_is_allowed() -> None:
    BarProgress(Console(file=io.StringIO(), force_terminal=True)).stop()


def test_what_suits_a_file() -> None:
    assert isinstance(progress_for(io.StringIO()), PlainProgress)
    assert isinstance(progress_for(io.StringIO(), silent=True), SilentProgress)


def test_is_made_with_the_first_reject_and_written_as_it_happens(tmp_path: Path) -> None:
    path, counts = tmp_path / "r.jsonl", Counter[str]()
    with RejectsFile(path, counts) as rejects:
        assert not path.exists()
        rejects.write(Reject("a\udc80", "a.jpg", "ID_INVALID", "größe", None))
        assert json.loads(path.read_text()) == {
            "id": "a\udc80",
            "image": "a.jpg",
            "reason": "ID_INVALID",
            "message": "größe",
            "bytes": None,
        }
        rejects.write(Reject("b", "b.jpg", "IMAGE_EMPTY", "empty", 0))
    assert len(path.read_text().splitlines()) == 2
    assert counts == {"ID_INVALID": 1, "IMAGE_EMPTY": 1}


def test_what_an_earlier_run_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text("old\n")
    with RejectsFile(path, Counter()):
        assert not path.exists()


@pytest.mark.parametrize("name", ["", "missing/r.jsonl"])
def test_a_place_that_cannot_be_written_is_told_at_the_start(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match="`rejects_path`"), RejectsFile(tmp_path / name, Counter()):
        pass
