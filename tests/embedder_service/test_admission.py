"""How much the embedder holds at once."""

import asyncio

import pytest

from cir.common.v1 import errors_pb2 as pb
from embedder_service.admission import ItemBudget
from embedder_service.fair_share import Priority
from embedder_service.job import Tower
from service_runtime.errors import ServiceError


async def test_beyond_the_limit_calls_are_refused_with_a_time_to_come_back() -> None:
    budget = ItemBudget(10)
    with budget.hold(8, Priority.INTERACTIVE, Tower.IMAGE):
        with (
            pytest.raises(ServiceError, match="limit of 10") as caught,
            budget.hold(3, Priority.INTERACTIVE, Tower.IMAGE),
        ):
            pass
        assert caught.value.reason == pb.OVERLOADED
        assert caught.value.retry_after is not None
        with budget.hold(2, Priority.INTERACTIVE, Tower.IMAGE):
            assert budget.held == 10
    assert budget.held == 0


async def test_bulk_leaves_room_for_interactive_calls() -> None:
    budget = ItemBudget(8)
    with budget.hold(6, Priority.BULK, Tower.IMAGE):
        with pytest.raises(ServiceError, match="limit of 6"), budget.hold(1, Priority.BULK, Tower.IMAGE):
            pass
        with budget.hold(2, Priority.INTERACTIVE, Tower.IMAGE):
            pass


async def test_a_batch_over_the_bulk_share_gets_in_alone() -> None:
    budget = ItemBudget(8)
    with budget.hold(8, Priority.BULK, Tower.IMAGE):
        assert budget.held == 8


async def test_waiting_ends_when_items_are_given_back() -> None:
    budget = ItemBudget(4)
    with budget.hold(4, Priority.INTERACTIVE, Tower.IMAGE):
        waiting = asyncio.create_task(budget.wait_for_room())
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


async def test_interactive_calls_that_would_wait_too_long_are_refused_until_there_is_room() -> None:
    now = 0.0
    budget = ItemBudget(1000, max_wait_seconds=5, clock=lambda: now)
    for _ in range(40):
        with budget.hold(2, Priority.INTERACTIVE, Tower.IMAGE):
            now += 0.2
    with budget.hold(60, Priority.INTERACTIVE, Tower.IMAGE):
        assert budget.wait_seconds(Tower.IMAGE) == pytest.approx(6, rel=0.1)
        with (
            pytest.raises(ServiceError, match="would wait for") as caught,
            budget.hold(1, Priority.INTERACTIVE, Tower.IMAGE),
        ):
            pass
        assert caught.value.reason == pb.OVERLOADED
        assert caught.value.retry_after == pytest.approx(1, abs=0.6)
        # Neither the other tower's work nor bulk work waits for the same.
        with budget.hold(1, Priority.INTERACTIVE, Tower.TEXT), budget.hold(1, Priority.BULK, Tower.IMAGE):
            assert budget.held == 62
    with budget.hold(1, Priority.INTERACTIVE, Tower.IMAGE):
        pass


async def test_bulk_work_is_not_waited_for() -> None:
    now = 0.0
    budget = ItemBudget(1000, max_wait_seconds=1, clock=lambda: now)
    with budget.hold(700, Priority.BULK, Tower.IMAGE):
        for _ in range(20):
            with budget.hold(1, Priority.INTERACTIVE, Tower.IMAGE):
                now += 0.2
        assert budget.wait_seconds(Tower.IMAGE) == 0
