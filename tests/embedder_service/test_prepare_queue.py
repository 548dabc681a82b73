"""Which preparation a free thread takes."""

from __future__ import annotations

from embedder_service.fair_share import Priority
from embedder_service.prepare_queue import Preparation, PrepareQueue
from embedder_service.presence import InteractivePresence
from tests.clock import Clock


def nothing() -> None:
    pass


def queue(threads: int) -> tuple[PrepareQueue, InteractivePresence, Clock]:
    clock = Clock()
    presence = InteractivePresence(clock, memory_seconds=5)
    return PrepareQueue(threads, presence), presence, clock


def put(target: PrepareQueue, count: int, priority: Priority, caller: str = "a") -> list[Preparation]:
    works = [Preparation(caller, priority, nothing) for _ in range(count)]
    for work in works:
        target.put(work)
    return works


def test_alone_bulk_work_has_every_thread() -> None:
    waiting, _, _ = queue(4)
    works = put(waiting, 5, Priority.BULK)
    assert [waiting.take() for _ in range(4)] == works[:4]


def test_bulk_work_leaves_half_of_the_threads_while_interactive_calls_are_around() -> None:
    waiting, presence, clock = queue(4)
    bulk = put(waiting, 10, Priority.BULK)
    presence.arrived()
    assert [waiting.take() for _ in range(4)] == [*bulk[:2], None, None]
    # A thread is free for the interactive call at once.
    interactive = put(waiting, 1, Priority.INTERACTIVE, "b")
    assert waiting.take() is interactive[0]
    waiting.done(interactive[0])
    waiting.done(bulk[0])
    assert waiting.take() is bulk[2]
    assert waiting.take() is None
    presence.left()
    assert waiting.take() is None
    clock.now += 5
    assert [waiting.take() for _ in range(2)] == bulk[3:5]


def test_with_one_thread_bulk_work_still_goes_on() -> None:
    waiting, presence, _ = queue(1)
    presence.arrived()
    bulk = put(waiting, 2, Priority.BULK)
    assert waiting.take() is bulk[0]
    assert waiting.take() is None
    waiting.done(bulk[0])
    assert waiting.take() is bulk[1]


def test_interactive_work_that_never_ends_does_not_starve_bulk_work() -> None:
    waiting, presence, _ = queue(2)
    presence.arrived()
    put(waiting, 100, Priority.INTERACTIVE)
    put(waiting, 100, Priority.BULK)
    classes = []
    for _ in range(50):
        work = waiting.take()
        assert work is not None
        classes.append(work.priority)
        waiting.done(work)
    assert classes.count(Priority.BULK) == 10


def test_callers_of_one_class_take_turns() -> None:
    waiting, _, _ = queue(2)
    many = put(waiting, 100, Priority.INTERACTIVE, "many")
    few = put(waiting, 2, Priority.INTERACTIVE, "few")
    assert [waiting.take() for _ in range(5)] == [many[0], few[0], many[1], few[1], many[2]]
    assert waiting
