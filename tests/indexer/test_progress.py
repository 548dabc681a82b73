"""What a person sees of a run."""

from __future__ import annotations

import io
from collections import Counter

from rich.console import Console

from indexer.changes import Change
from indexer.progress import BarProgress, PlainProgress, SilentProgress, progress_for
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
