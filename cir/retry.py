"""Trying again: exponential waits with jitter, the other side's own wait where it names one, and an end."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import grpc

from cir.errors import CirError, Overloaded

T = TypeVar("T")

INITIAL_WAIT_S = 0.2
LONGEST_WAIT_S = 10.0

#: Codes of a service that is full.
BUSY = frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED})
#: Codes of a service that is full, or cannot be reached for some time.
BUSY_OR_AWAY = BUSY | {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    # How a call ends whose server stops before its answer is ready.
    grpc.StatusCode.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """For how long a failed call is tried again, and after which codes.

    `seconds` are counted from the first attempt. A message over the size limit has the code
    RESOURCE_EXHAUSTED as well; it is never tried again.
    """

    seconds: float = 0.0
    codes: frozenset[grpc.StatusCode] = frozenset()

    def wait_asked(self, error: Exception) -> float | None:
        """Return the seconds that a failed call asks to wait (0: it names none), or None to give up."""
        if not isinstance(error, CirError) or error.code not in self.codes:
            return None
        if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED and not isinstance(error, Overloaded):
            return None
        return error.retry_after or 0.0

    def is_for_item(self, code: int) -> bool:
        """Return whether the code of one item of a batch says that the item may succeed when sent again."""
        return any(known.value[0] == code for known in self.codes)

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Await `call()` until it succeeds or the policy gives up, which raises its last exception."""
        return await retrying(call, wait_asked=self.wait_asked, seconds=self.seconds)


NO_RETRY = RetryPolicy()


async def retrying(
    call: Callable[[], Awaitable[T]],
    *,
    wait_asked: Callable[[Exception], float | None],
    seconds: float,
) -> T:
    """Await `call()` until it succeeds, for at most `seconds` after the first attempt began.

    `wait_asked` returns for an exception how many seconds the other side asked to wait (0 when it named
    none), or None when trying again makes no sense. The last exception is raised as it is, also when the
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
    """Return the seconds to wait after failed attempt number `attempt` (from 0): never less than `asked`."""
    backoff: float = min(INITIAL_WAIT_S * 2.0 ** min(attempt, 32), LONGEST_WAIT_S)
    # Spread, so that many callers that were refused together do not return together.
    spread = random.uniform(0.5, 1.0)  # noqa: S311
    return asked + backoff * spread * 0.5 if asked else backoff * spread
