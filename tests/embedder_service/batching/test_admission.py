"""Admission: the expected wait, and the limits beyond which calls are refused."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cir.common.v1 import errors_pb2 as pb
from embedder_service.batching.admission import Admission, WaitEstimate
from embedder_service.batching.jobs import Priority, Tower
from service_runtime.errors import ServiceError
from tests.clock import Clock

pytestmark = pytest.mark.torch


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
        estimate.add(items)
        clock.now += items / rate
        estimate.remove(items, completed=True)
    clock.now += idle
    estimate.add(ahead)
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
    estimate.add(1000)
    clock.now += 100
    assert estimate.seconds() == 0
    estimate.remove(1000, completed=False)
    estimate.add(10)
    assert estimate.seconds() == 0


def test_what_is_given_up_says_nothing_of_the_rate() -> None:
    clock = Clock()
    estimate = WaitEstimate(clock)
    for _ in range(50):
        estimate.add(10)
        clock.now += 1
        estimate.remove(1, completed=True)
        estimate.remove(9, completed=False)
    estimate.add(10)
    assert estimate.seconds() == pytest.approx(10, rel=0.3)


def test_a_device_that_stops_makes_the_estimate_grow() -> None:
    clock = Clock()
    estimate = WaitEstimate(clock)
    for _ in range(20):
        estimate.add(10)
        clock.now += 0.5
        estimate.remove(10, completed=True)
    estimate.add(20)
    before = estimate.seconds()
    clock.now += 30
    assert estimate.seconds() > 10 * before


async def test_beyond_the_limit_calls_are_refused_with_a_time_to_come_back() -> None:
    admission = Admission(10)
    with admission.hold(8, Priority.INTERACTIVE, Tower.IMAGE):
        with (
            pytest.raises(ServiceError, match="limit of 10") as caught,
            admission.hold(3, Priority.INTERACTIVE, Tower.IMAGE),
        ):
            pass
        assert caught.value.reason == pb.OVERLOADED
        assert caught.value.retry_after is not None
        with admission.hold(2, Priority.INTERACTIVE, Tower.IMAGE):
            assert admission.held == 10
    assert admission.held == 0


async def test_bulk_leaves_room_for_interactive_calls() -> None:
    admission = Admission(8)
    with admission.hold(6, Priority.BULK, Tower.IMAGE):
        with pytest.raises(ServiceError, match="limit of 6"), admission.hold(1, Priority.BULK, Tower.IMAGE):
            pass
        with admission.hold(2, Priority.INTERACTIVE, Tower.IMAGE):
            pass


async def test_a_batch_over_the_bulk_share_gets_in_alone() -> None:
    admission = Admission(8)
    with admission.hold(8, Priority.BULK, Tower.IMAGE):
        assert admission.held == 8


async def test_waiting_ends_when_items_are_given_back() -> None:
    admission = Admission(4)
    with admission.hold(4, Priority.INTERACTIVE, Tower.IMAGE):
        waiting = asyncio.create_task(admission.wait_for_room())
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


async def test_interactive_calls_that_would_wait_too_long_are_refused_until_there_is_room() -> None:
    now = 0.0
    admission = Admission(1000, max_wait_seconds=5, clock=lambda: now)
    for _ in range(40):
        with admission.hold(2, Priority.INTERACTIVE, Tower.IMAGE):
            now += 0.2
    with admission.hold(60, Priority.INTERACTIVE, Tower.IMAGE):
        assert admission.wait_seconds(Tower.IMAGE) == pytest.approx(6, rel=0.1)
        with (
            pytest.raises(ServiceError, match="would wait for") as caught,
            admission.hold(1, Priority.INTERACTIVE, Tower.IMAGE),
        ):
            pass
        assert caught.value.reason == pb.OVERLOADED
        assert caught.value.retry_after == pytest.approx(1, abs=0.6)
        # Neither the other tower's work nor bulk work waits for the same.
        with (
            admission.hold(1, Priority.INTERACTIVE, Tower.TEXT),
            admission.hold(1, Priority.BULK, Tower.IMAGE),
        ):
            assert admission.held == 62
    with admission.hold(1, Priority.INTERACTIVE, Tower.IMAGE):
        pass


async def test_bulk_work_is_not_waited_for() -> None:
    now = 0.0
    admission = Admission(1000, max_wait_seconds=1, clock=lambda: now)
    with admission.hold(700, Priority.BULK, Tower.IMAGE):
        for _ in range(20):
            with admission.hold(1, Priority.INTERACTIVE, Tower.IMAGE):
                now += 0.2
        assert admission.wait_seconds(Tower.IMAGE) == 0
