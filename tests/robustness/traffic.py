"""Calls over our own client channel while something happens to the servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from cir.channel import OPTIONS


@dataclass(frozen=True, slots=True)
class Outcome:
    """One call: when it was sent and ended (`time.monotonic`), and how."""

    sent: float
    ended: float
    code: grpc.StatusCode
    said: str


@dataclass(slots=True)
class Traffic:
    """What clients saw."""

    outcomes: list[Outcome] = field(default_factory=list)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, outcome: Outcome) -> None:
        """A call has ended."""
        self.outcomes.append(outcome)
        self._ended.set()

    def failures(self) -> list[Outcome]:
        """Calls that did not succeed."""
        return [outcome for outcome in self.outcomes if outcome.code is not grpc.StatusCode.OK]

    async def has(self, calls: int) -> None:
        """Return once so many calls have ended."""
        target = len(self.outcomes) + calls
        while len(self.outcomes) < target:
            self._ended.clear()
            await self._ended.wait()


def channel_to(addresses: Sequence[str]) -> grpc.aio.Channel:
    """A channel with the options of our clients to one name with several addresses."""
    return grpc.aio.insecure_channel("ipv4:" + ",".join(addresses), options=OPTIONS)


@asynccontextmanager
async def traffic(
    addresses: Sequence[str], calls: Sequence[tuple[str, bytes]], *, clients: int = 6
) -> AsyncIterator[Traffic]:
    """Clients that each send one call after the other, on channels of their own, until the block ends."""
    seen = Traffic()
    going = True

    async def client(number: int) -> None:
        async with channel_to(addresses) as channel:
            while going:
                number += 1
                method, content = calls[number % len(calls)]
                send: Any = channel.unary_unary(method)
                call = send(content, timeout=30)
                sent = time.monotonic()
                code = await call.code()
                seen.add(Outcome(sent, time.monotonic(), code, await call.details()))
                if code is not grpc.StatusCode.OK:
                    await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(client(number)) for number in range(clients)]
    try:
        await asyncio.wait_for(seen.has(clients * 3), 60)
        yield seen
    finally:
        going = False
        await asyncio.gather(*tasks)
