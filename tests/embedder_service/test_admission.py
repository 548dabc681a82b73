"""How much the embedder holds at once."""

import asyncio

import pytest

from cir.common.v1 import errors_pb2 as pb
from embedder_service.admission import ItemBudget
from embedder_service.fair_share import Priority
from service_runtime.errors import ServiceError


async def test_beyond_the_limit_calls_are_refused_with_a_time_to_come_back() -> None:
    budget = ItemBudget(10)
    with budget.hold(8, Priority.INTERACTIVE):
        with pytest.raises(ServiceError, match="limit of 10") as caught, budget.hold(3, Priority.INTERACTIVE):
            pass
        assert caught.value.reason == pb.OVERLOADED
        assert caught.value.retry_after is not None
        with budget.hold(2, Priority.INTERACTIVE):
            assert budget.held == 10
    assert budget.held == 0


async def test_bulk_leaves_room_for_interactive_calls() -> None:
    budget = ItemBudget(8)
    with budget.hold(6, Priority.BULK):
        with pytest.raises(ServiceError, match="limit of 6"), budget.hold(1, Priority.BULK):
            pass
        with budget.hold(2, Priority.INTERACTIVE):
            pass


async def test_a_batch_over_the_bulk_share_gets_in_alone() -> None:
    budget = ItemBudget(8)
    with budget.hold(8, Priority.BULK):
        assert budget.held == 8


async def test_waiting_ends_when_items_are_given_back() -> None:
    budget = ItemBudget(4)
    with budget.hold(4, Priority.INTERACTIVE):
        waiting = asyncio.create_task(budget.wait_for_room())
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting
