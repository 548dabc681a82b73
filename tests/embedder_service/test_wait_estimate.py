"""How long work would wait, on a clock that the test moves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedder_service.wait_estimate import WaitEstimate
from tests.clock import Clock


@given(
    rate=st.floats(0.5, 5000),
    items=st.integers(1, 64),
    ahead=st.integers(1, 5000),
    idle=st.floats(0, 1e6),
)
def test_a_steady_rate_is_found_and_survives_idle_time(
    rate: float, items: int, ahead: int, idle: float
) -> None:
    clock = Clock()
    estimate = WaitEstimate(clock)
    for _ in range(200):
        estimate.arrived(items)
        clock.now += items / rate
        estimate.left(items, done=True)
    clock.now += idle
    estimate.arrived(ahead)
    seconds = estimate.seconds()
    if 200 * items / rate >= 1.1:
        # The rate fades in steps of one arrival, hence not to the last digit.
        step = 0.5 ** (items / rate / 5)
        assert seconds == pytest.approx(ahead / rate, rel=2 * (1 - step) + 1e-6)
    assert seconds >= 0
    assert estimate.held == ahead


def test_without_experience_there_is_no_estimate() -> None:
    clock = Clock()
    estimate = WaitEstimate(clock)
    estimate.arrived(1000)
    clock.now += 100
    assert estimate.seconds() == 0
    estimate.left(1000, done=False)
    estimate.arrived(10)
    assert estimate.seconds() == 0


def test_what_is_given_up_says_nothing_of_the_rate() -> None:
    clock = Clock()
    estimate = WaitEstimate(clock)
    for _ in range(50):
        estimate.arrived(10)
        clock.now += 1
        estimate.left(1, done=True)
        estimate.left(9, done=False)
    estimate.arrived(10)
    assert estimate.seconds() == pytest.approx(10, rel=0.3)


def test_a_device_that_stops_makes_the_estimate_grow() -> None:
    clock = Clock()
    estimate = WaitEstimate(clock)
    for _ in range(20):
        estimate.arrived(10)
        clock.now += 0.5
        estimate.left(10, done=True)
    estimate.arrived(20)
    before = estimate.seconds()
    clock.now += 30
    assert estimate.seconds() > 10 * before
