"""Progress: only work that waits and does not end is a stall."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_runtime.watchdog import Progress
from tests.clock import Clock
from tests.service_runtime.example_service import working


@given(st.lists(st.tuples(st.floats(0, 10), st.sampled_from(["begin", "end"]))))
def test_a_stall_is_as_long_as_nothing_ended_while_something_waited(steps: list[tuple[float, str]]) -> None:
    clock = Clock()
    progress = Progress(clock)
    waiting, moved = 0, clock.now
    for seconds, step in steps:
        clock.now += seconds
        if step == "begin":
            if not waiting:
                moved = clock.now
            waiting += 1
            progress.begin()
        elif waiting:
            waiting -= 1
            moved = clock.now
            progress.end()
        clock.now += 1
        assert progress.open == waiting
        assert progress.stalled_seconds() == (clock.now - moved if waiting else 0.0)


def test_work_that_fails_has_ended() -> None:
    progress = Progress()

    def fail() -> None:
        with working(progress):
            assert progress.open == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert progress.open == 0
