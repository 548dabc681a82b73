"""Scheduling rules: priorities without starvation, recent interactive calls."""

from __future__ import annotations

import pytest

from embedder_service.batching.jobs import Priority
from embedder_service.batching.scheduling import PriorityPicker, RecentActivity
from tests.clock import Clock

pytestmark = pytest.mark.torch


def test_bulk_gets_one_pick_in_five_among_interactive_work() -> None:
    picker = PriorityPicker(bulk_every=5)
    picks = [picker.pick(interactive=True, bulk=True) for _ in range(20)]
    assert picks.count(Priority.BULK) == 4
    assert picks[:5] == [Priority.INTERACTIVE] * 4 + [Priority.BULK]


def test_alone_each_class_goes_at_once() -> None:
    picker = PriorityPicker()
    assert picker.pick(interactive=False, bulk=True) is Priority.BULK
    assert picker.pick(interactive=True, bulk=False) is Priority.INTERACTIVE
    assert picker.pick(interactive=False, bulk=False) is None


def test_bulk_that_comes_late_has_saved_no_turns() -> None:
    picker = PriorityPicker(bulk_every=3)
    for _ in range(10):
        picker.pick(interactive=True, bulk=False)
    assert picker.pick(interactive=True, bulk=True) is Priority.INTERACTIVE


def test_a_call_is_around_from_arrival_until_a_while_after_its_answer() -> None:
    clock = Clock()
    activity = RecentActivity(clock, recent_seconds=5)
    assert not activity.is_active()
    activity.call_started()
    clock.now += 100
    assert activity.is_active()
    activity.call_ended()
    clock.now += 4.9
    assert activity.is_active()
    clock.now += 0.2
    assert not activity.is_active()


def test_the_last_of_several_counts() -> None:
    clock = Clock()
    activity = RecentActivity(clock, recent_seconds=5)
    activity.call_started()
    activity.call_started()
    activity.call_ended()
    clock.now += 10
    assert activity.is_active()
    activity.call_ended()
    clock.now += 5
    assert not activity.is_active()
