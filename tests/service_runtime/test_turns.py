"""Turns of callers, and of parties of callers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from service_runtime.turns import RoundRobin


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


@given(
    items=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 4)), max_size=60),
    taken_first=st.integers(0, 20),
)
def test_parties_take_turns_however_many_callers_they_have(
    items: list[tuple[str, int]], taken_first: int
) -> None:
    """Between two turns of one party, every other party that waits has had exactly one."""
    queue = RoundRobin[int]()
    taken: list[int] = []

    def take() -> None:
        caller = queue.next_caller()
        taken.append(queue.drop_oldest(caller))
        queue.end_turn(caller)

    for number, (party, caller) in enumerate(items):
        queue.put((party, caller), number, party=party)
        if number < taken_first and queue:
            take()
    left = len(taken)
    while queue:
        take()
    assert sorted(taken) == list(range(len(items)))
    parties = [items[number][0] for number in taken[left:]]
    while len(set(parties)) == 2:
        assert parties[0] != parties[1]
        parties = parties[1:]
    for place in set(items):
        own = [number for number in taken if items[number] == place]
        assert own == sorted(own)


def test_calls_of_one_party_delay_another_party_by_one_turn() -> None:
    queue = RoundRobin[str]()
    for number in range(100):
        queue.put(number, "flood", party="attacker")
    queue.put("call", "asked", party="neighbour")
    order = []
    while queue:
        caller = queue.next_caller()
        order.append(queue.drop_oldest(caller))
        queue.end_turn(caller)
    assert order.index("asked") <= 1
