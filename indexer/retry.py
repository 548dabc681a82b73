"""Trying again: exponential waits with jitter, the other side's own wait where it names one, and an end."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

INITIAL_WAIT_S = 0.2
LONGEST_WAIT_S = 10.0


async def retrying(
    call: Callable[[], Awaitable[T]],
    *,
    wait_asked: Callable[[Exception], float | None],
    seconds: float,
) -> T:
    """Await `call()` until it succeeds, for at most `seconds` after the first attempt began.

    `wait_asked` tells of an exception how many seconds the other side asked to wait (0 when it did not
    say), or None when trying again makes no sense. The last exception is raised as it is, also when the
    wait would end after the time is up.
    """
    deadline = time.monotonic() + seconds
    attempt = 0
    while True:
        try:
            return await call()
        except Exception as error:
            asked = wait_asked(error)
            if asked is None:
                raise
            wait = wait_before(attempt, asked)
            if time.monotonic() + wait > deadline:
                raise
        await asyncio.sleep(wait)
        attempt += 1


def wait_before(attempt: int, asked: float) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 0): never less than `asked`."""
    backoff: float = min(INITIAL_WAIT_S * 2.0 ** min(attempt, 32), LONGEST_WAIT_S)
    # Spread, so that many callers that were refused together do not return together.
    spread = random.uniform(0.5, 1.0)  # noqa: S311
    return asked + backoff * spread * 0.5 if asked else backoff * spread
