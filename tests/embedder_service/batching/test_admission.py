"""Admission: the expected wait, and the limits beyond which calls are refused."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cir.common.v1 import errors_pb2 as pb
from embedder_service.batching.admission import Admission, WaitEstimate
from embedder_service.batching.jobs import Priority, Tower
from service_runtime.auth import caller_context
from service_runtime.errors import ServiceError
from service_runtime.turns import RoundRobin
from tests.clock import Clock

pytestmark = pytest.mark.torch

PARTY = "key shop"


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
        estimate.add(PARTY, items)
        clock.now += items / rate
        estimate.remove(PARTY, items, completed=True)
    clock.now += idle
    estimate.add(PARTY, ahead)
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
    estimate.add(PARTY, 1000)
    clock.now += 100
    assert estimate.seconds() == 0
    estimate.remove(PARTY, 1000, completed=False)
    estimate.add(PARTY, 10)
    assert estimate.seconds() == 0


def test_what_is_given_up_says_nothing_of_the_rate() -> None:
    clock = Clock()
    estimate = WaitEstimate(clock)
    for _ in range(50):
        estimate.add(PARTY, 10)
        clock.now += 1
        estimate.remove(PARTY, 1, completed=True)
        estimate.remove(PARTY, 9, completed=False)
    estimate.add(PARTY, 10)
    assert estimate.seconds() == pytest.approx(10, rel=0.3)


def test_a_device_that_stops_makes_the_estimate_grow() -> None:
    clock = Clock()
    estimate = WaitEstimate(clock)
    for _ in range(20):
        estimate.add(PARTY, 10)
        clock.now += 0.5
        estimate.remove(PARTY, 10, completed=True)
    estimate.add(PARTY, 20)
    before = estimate.seconds()
    clock.now += 30
    assert estimate.seconds() > 10 * before


async def test_beyond_the_limit_calls_are_refused_with_a_time_to_come_back() -> None:
    admission = Admission(20)
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


async def test_bulk_leaves_room_for_interactive_calls_of_its_own_caller_too() -> None:
    admission = Admission(16)
    with admission.hold(8, Priority.BULK, Tower.IMAGE):
        with pytest.raises(ServiceError, match="limit of 8"), admission.hold(1, Priority.BULK, Tower.IMAGE):
            pass
        with caller_context(None, "other"), admission.hold(4, Priority.BULK, Tower.IMAGE):
            pass
        with admission.hold(4, Priority.INTERACTIVE, Tower.IMAGE):
            pass


async def test_a_batch_over_every_limit_gets_in_alone() -> None:
    admission = Admission(8)
    for priority in Priority:
        with admission.hold(8, priority, Tower.IMAGE):
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
        # Neither the other tower's work nor bulk work nor another caller's waits for the same.
        with (
            admission.hold(1, Priority.INTERACTIVE, Tower.TEXT),
            admission.hold(1, Priority.BULK, Tower.IMAGE),
            caller_context(None, "other"),
            admission.hold(20, Priority.INTERACTIVE, Tower.IMAGE),
        ):
            assert admission.held == 82
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


@dataclass(frozen=True)
class Call:
    """A call of one party, and how it ends."""

    party: str
    items: int
    priority: Priority
    tower: Tower
    end: str


calls = st.builds(
    Call,
    party=st.sampled_from("abcd"),
    items=st.integers(1, 20),
    priority=st.sampled_from(Priority),
    tower=st.sampled_from([Tower.IMAGE, Tower.TEXT]),
    end=st.sampled_from(["answered", "failed", "cancelled"]),
)


@given(
    most=st.integers(1, 64),
    steps=st.lists(calls | st.integers(0, 30), max_size=60),
)
def test_whatever_comes_the_room_is_kept_and_halved_and_nothing_is_left(
    most: int, steps: list[Call | int]
) -> None:
    async def run() -> None:
        admission = Admission(most)
        held: list[tuple[Call, asyncio.Task[None], asyncio.Future[None]]] = []

        async def serve(call: Call, answer: asyncio.Future[None]) -> None:
            with caller_context(None, call.party), admission.hold(call.items, call.priority, call.tower):
                await answer

        async def end(place: int) -> None:
            call, task, answer = held.pop(place)
            if call.end == "cancelled":
                task.cancel()
            elif call.end == "failed":
                answer.set_exception(OSError())
            else:
                answer.set_result(None)
            await asyncio.wait([task])

        def count(**parts: object) -> int:
            return sum(
                call.items
                for call, _, _ in held
                if all(getattr(call, name) == value for name, value in parts.items())
            )

        for step in steps:
            if isinstance(step, int):
                if held:
                    await end(step % len(held))
                continue
            own = count(party=step.party, priority=step.priority)
            after = count() + step.items
            bulk = count(priority=Priority.BULK) + step.items if step.priority is Priority.BULK else 0
            fits = own + step.items <= most - after and bulk <= max(1, most * 3 // 4)
            answer = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(serve(step, answer))
            await asyncio.sleep(0)
            if fits or not held:
                assert not task.done()
                held.append((step, task, answer))
            else:
                assert isinstance(task.exception(), ServiceError)
            assert admission.held == count()
            assert admission.held <= most or len(held) == 1
        while held:
            await end(0)
        assert admission.held == 0
        for priority, limit in ((Priority.INTERACTIVE, most // 2), (Priority.BULK, most // 2)):
            assert admission.limit("a", priority) == limit
        assert not any(admission.wait_seconds(tower) for tower in Tower)

    asyncio.run(run())


@given(
    most=st.integers(64, 2048),
    floods=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 32), st.sampled_from(Priority))),
    priority=st.sampled_from(Priority),
)
def test_one_who_holds_nothing_gets_in_however_much_others_send(
    most: int, floods: list[tuple[str, int, Priority]], priority: Priority
) -> None:
    admission = Admission(most)
    with ExitStack() as held:
        for party, items, of in floods:
            with caller_context(None, party), suppress(ServiceError):
                while True:
                    held.enter_context(admission.hold(items, of, Tower.TEXT))
        parties = len({(party, of) for party, _, of in floods})
        bulk_parties = len({party for party, _, of in floods if of is Priority.BULK})
        room = most >> parties + 1
        if priority is Priority.BULK and bulk_parties > 1:
            return  # two together may take all that bulk work gets
        if room:
            with caller_context(None, "neighbour"):
                held.enter_context(admission.hold(room, priority, Tower.IMAGE))


@settings(max_examples=12)
@given(parties=st.integers(1, 4), items=st.integers(2, 6), source=st.randoms(use_true_random=False))
def test_a_lasting_overload_is_shared_in_equal_parts(parties: int, items: int, source: random.Random) -> None:
    most = 60
    admission = Admission(most)
    held: list[tuple[str, ExitStack]] = []

    def send_what_fits(names: str) -> None:
        for name in source.sample(names, len(names)):
            with caller_context(None, name), suppress(ServiceError):
                while True:
                    stack = ExitStack()
                    stack.enter_context(admission.hold(items, Priority.INTERACTIVE, Tower.TEXT))
                    held.append((name, stack))

    send_what_fits("a")
    names = "abcdef"[:parties]
    for _ in range(most):
        held.pop(source.randrange(len(held)))[1].close()
        send_what_fits(names)
    shares = Counter(name for name, _ in held)
    equal = most / (parties + 1)
    assert all(abs(shares[name] * items - equal) <= 2 * items + 1 for name in names)


@given(
    held=st.dictionaries(st.sampled_from("abcd"), st.integers(1, 30)),
    party=st.sampled_from("abcde"),
    items=st.integers(1, 30),
)
def test_what_is_ahead_of_a_call_is_what_turns_put_there(
    held: dict[str, int], party: str, items: int
) -> None:
    estimate, queue = WaitEstimate(Clock()), RoundRobin[str]()
    for name in sorted(held, key=lambda name: name == party):  # the last turn of a round is its own
        estimate.add(name, held[name])
        for _ in range(held[name]):
            queue.put(name, name)
    ahead = estimate.ahead(party, items)
    for _ in range(items):
        queue.put(party, party)
    taken: list[str] = []
    while taken.count(party) < held.get(party, 0) + items:
        caller = queue.next_caller()
        taken.append(queue.drop_oldest(caller))
        queue.end_turn(caller)
    assert ahead == len(taken) - items
    assert ahead <= estimate.held
