"""How much work the embedder holds at once, over all calls: beyond it, calls are refused at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from cir.common.v1 import errors_pb2 as pb
from embedder_service.fair_share import Priority
from service_runtime.errors import ServiceError


class ItemBudget:
    """Counts items from a call's arrival to its answer. For one event loop.

    Bulk work gets at most three quarters, so that it never keeps interactive calls out.
    """

    def __init__(self, max_items: int) -> None:
        self._limits = {Priority.INTERACTIVE: max_items, Priority.BULK: max(1, max_items * 3 // 4)}
        self._held = 0
        self._freed = asyncio.Event()

    @property
    def held(self) -> int:
        """Items held now."""
        return self._held

    @contextmanager
    def hold(self, items: int, priority: Priority) -> Iterator[None]:
        """Hold `items` for the block. Raises ServiceError (OVERLOADED, with a time to try again)."""
        limit = self._limits[priority]
        # A batch larger than the limit is let in when nothing else is held, else it could never be.
        if self._held and self._held + items > limit:
            raise ServiceError(
                pb.OVERLOADED,
                f"{self._held} items are held, {items} more would exceed the limit of {limit} for "
                f"{priority.name.lower()} work; try again later",
                retry_after=0.2,
            )
        self._held += items
        try:
            yield
        finally:
            self._held -= items
            self._freed.set()

    async def wait_for_room(self) -> None:
        """Return after items were given back; whether that is enough is for `hold` to say."""
        self._freed.clear()
        await self._freed.wait()
