from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_runtime.rate_limit import TokenBuckets, peer_name
from tests.clock import Clock


def test_a_burst_passes_then_the_rate() -> None:
    clock = Clock(1e6)
    buckets = TokenBuckets(2.0, 3, clock=clock)
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a") == pytest.approx(0.5)
    clock.now += 0.5
    assert buckets.take("a") == 0
    assert buckets.take("a") == pytest.approx(0.5)
    assert buckets.take("b") == 0
    clock.now += 1000
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, pytest.approx(0.5)]


rates = st.floats(0.01, 1000)
bursts = st.integers(1, 50)
# Times between calls, in parts of the time that a token takes.
gaps = st.lists(st.floats(0, 3), min_size=1, max_size=200)


@given(rates, bursts, gaps)
def test_no_window_holds_more_than_burst_and_rate_allow(rate: float, burst: int, waits: list[float]) -> None:
    clock = Clock(1e6)
    buckets = TokenBuckets(rate, burst, clock=clock)
    taken: list[float] = []
    for wait in waits:
        clock.now += wait / rate
        if buckets.take("a") == 0:
            taken.append(clock.now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            allowed = burst + (taken[last] - taken[first]) * rate
            assert last - first + 1 <= allowed + 1e-3


@given(rates, bursts, gaps)
def test_the_wait_is_exact(rate: float, burst: int, waits: list[float]) -> None:
    clock = Clock(1e6)
    buckets = TokenBuckets(rate, burst, clock=clock)
    for wait in waits:
        clock.now += wait / rate
        seconds = buckets.take("a")
        if seconds:
            assert seconds <= 1 / rate * (1 + 1e-6)
            clock.now += seconds * 0.99
            assert buckets.take("a") > 0
            clock.now += seconds * 0.01 + 1e-8
            assert buckets.take("a") == 0


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 2)), max_size=300))
def test_callers_do_not_touch_each_other_and_few_are_kept(calls: list[tuple[int, float]]) -> None:
    clock = Clock(1e6)
    together = TokenBuckets(1.0, 2, clock=clock)
    alone = {number: TokenBuckets(1.0, 2, clock=clock) for number in range(31)}
    for number, wait in calls:
        clock.now += wait
        assert together.take(str(number)) == alone[number].take("x")
    clock.now += 3
    together.take("last")
    assert len(together) == 1


def test_memory_is_bounded_however_many_come() -> None:
    buckets = TokenBuckets(0.001, 1, max_callers=100, clock=Clock(1e6))
    for number in range(10_000):
        assert buckets.take(f"peer {number}") == 0
    assert len(buckets) == 100
    assert buckets.take("peer 9999") > 0


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        ("ipv4:10.0.0.7:4242", "10.0.0.7"),
        ("ipv6:%5B::1%5D:4242", "::/64"),
        ("ipv6:[2001:db8:1:2:3:4:5:6]:80", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2:ffff::9]:81", "2001:db8:1:2::/64"),
        ("ipv6:[::ffff:10.0.0.7]:1", "10.0.0.7"),
        ("ipv6:[fe80::1%25eth0]:1", "fe80::/64"),
        ("unix:/run/cir.sock", "unix:/run/cir.sock"),
        ("", ""),
    ],
)
def test_a_peer_counts_by_its_address(peer: str, name: str) -> None:
    assert peer_name(peer) == name
