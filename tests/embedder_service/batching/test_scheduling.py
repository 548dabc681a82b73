"""Scheduling rules: priorities without starvation, turns of callers, recent interactive calls."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedder_service.batching.jobs import Priority
from embedder_service.batching.scheduling import PriorityPicker, RecentActivity, RoundRobin
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


def drain(queue: RoundRobin[int]) -> list[int]:
    """Take everything, one item a turn."""
    taken = []
    while queue:
        caller = queue.next_caller()
        taken.append(queue.drop_oldest(caller))
        queue.end_turn(caller)
    return taken


def test_a_caller_with_many_items_delays_others_by_its_turn() -> None:
    queue = RoundRobin[int]()
    for item in range(100):
        queue.put("many", item)
    queue.put("few", 1000)
    queue.put("few", 1001)
    assert drain(queue)[:5] == [0, 1000, 1, 1001, 2]


def test_a_caller_that_comes_back_gets_the_last_turn() -> None:
    queue = RoundRobin[int]()
    queue.put("a", 1)
    queue.put("b", 2)
    queue.drop_oldest("a")
    queue.end_turn("a")
    queue.put("a", 3)
    assert queue.next_caller() == "b"
    assert queue.oldest("a") == 3
    assert queue.oldest("c") is None
    assert queue.heads() == [("b", 2), ("a", 3)]
    assert queue.callers == 2


@given(items=st.lists(st.sampled_from("abcd"), max_size=60))
def test_nothing_is_lost_and_each_caller_keeps_its_order(items: list[str]) -> None:
    queue = RoundRobin[int]()
    for number, caller in enumerate(items):
        queue.put(caller, number)
    assert sorted(queue) == list(range(len(items)))
    taken = drain(queue)
    assert sorted(taken) == list(range(len(items)))
    for caller in "abcd":
        own = [number for number in taken if items[number] == caller]
        assert own == sorted(own)
        # Between two turns of one caller, every other caller that waits has had exactly one.
        for earlier, later in pairwise(own):
            between = [items[number] for number in taken[taken.index(earlier) + 1 : taken.index(later)]]
            assert len(set(between)) == len(between)


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
