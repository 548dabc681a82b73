"""Waiting until a collection is green: every vector indexed, nothing left to optimise."""

from __future__ import annotations

import asyncio
import time

from qdrant_client import AsyncQdrantClient, models

from vector_store.errors import StoreUnavailable
from vector_store.qdrant_errors import engine_errors


async def wait_until_green(
    client: AsyncQdrantClient, collection: str, *, act: str, looks: int, poll_s: float, timeout_s: float
) -> None:
    """Return when the collection was green `looks` times in a row.

    `act` says what waits for it. Raises `StoreUnavailable` when the optimiser failed or time is over.
    """
    deadline = time.monotonic() + timeout_s
    green = 0
    while True:
        with engine_errors(act):
            info = await client.get_collection(collection)
        if info.status is models.CollectionStatus.RED:
            raise StoreUnavailable(f"cannot {act}: Qdrant's optimiser failed: {info.optimizer_status}")
        green = green + 1 if info.status is models.CollectionStatus.GREEN else 0
        if green >= looks:
            return
        if time.monotonic() >= deadline:
            raise StoreUnavailable(
                f"cannot {act}: collection {collection!r} is {info.status.value}, not green, after "
                f"{timeout_s:.0f} s; wait until Qdrant has indexed it and try again, or allow more time"
            )
        await asyncio.sleep(poll_s)
