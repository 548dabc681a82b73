"""Calls that came and were not handed on yet: turns of hosts and connections, and the end of the server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_runtime.grpcio_patch import MOST_ASKED, Arrivals, read_all_but_one, read_events_at_once
from service_runtime.server import serving
from tests.service_runtime.probe import Probe, good_call, settings

Call = tuple[str, int, int]


class Core:
    """Calls as the core has them: each question is answered a while later with the oldest of them."""

    def __init__(self, calls: Sequence[Call] = ()) -> None:
        self.calls = list(calls)
        self.asked = self.most_asked = 0
        self.stopped = False

    async def ask(self) -> Call:
        self.asked += 1
        self.most_asked = max(self.most_asked, self.asked)
        try:
            while not self.calls and not self.stopped:  # noqa: ASYNC110  # the core knows no events
                await asyncio.sleep(0)
            if self.stopped:
                raise ConnectionError("stopped")
            call = self.calls.pop(0)
            for _ in range(3):
                await asyncio.sleep(0)
            return call
        finally:
            self.asked -= 1


async def rest(arrivals: Arrivals[Call]) -> None:
    for _ in range(2000):
        await arrivals.next()
        await asyncio.sleep(0)


def place(call: Call) -> tuple[str, tuple[str, int]] | None:
    host, connection, _ = call
    return None if host == "refused" else (host, (host, connection))


async def test_a_call_is_handed_on_soon_however_many_another_host_has_opened_before() -> None:
    flood: list[Call] = [("attacker", number % 10, number) for number in range(1000)]
    core = Core([*flood, ("neighbour", 0, 0)])
    arrivals = Arrivals(core.ask, place)
    handed_on = []
    for _ in range(200):
        handed_on.append(await arrivals.next())
        await asyncio.sleep(0)
    # Two of a time and ever more are taken, so that what came last of a thousand is among the first.
    assert ("neighbour", 0, 0) in handed_on[:50]
    assert core.most_asked <= MOST_ASKED
    core.stopped = True
    with pytest.raises(ConnectionError):
        await rest(arrivals)


@given(calls=st.lists(st.tuples(st.sampled_from(("a", "b", "refused")), st.integers(0, 3)), max_size=60))
def test_every_call_is_handed_on_once_and_those_of_a_connection_in_order(
    calls: list[tuple[str, int]],
) -> None:
    async def run() -> None:
        core = Core([(*call, number) for number, call in enumerate(calls)])
        taken = [(*call, number) for number, call in enumerate(calls) if call[0] != "refused"]
        arrivals = Arrivals(core.ask, place)
        found = [await asyncio.wait_for(arrivals.next(), 5) for _ in taken]
        assert sorted(found) == sorted(taken)
        for connection in set(calls):
            own = [number for *where, number in found if tuple(where) == connection]
            assert own == sorted(own)
        core.stopped = True
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(arrivals.next(), 5)

    asyncio.run(run())


async def test_calls_that_wait_are_gone_when_the_server_stops() -> None:
    core = Core([("a", 0, number) for number in range(20)])
    arrivals = Arrivals(core.ask, place)
    await arrivals.next()
    core.stopped = True
    with pytest.raises(ConnectionError):
        await rest(arrivals)


@pytest.mark.service
async def test_all_events_of_the_core_are_read_in_one_round() -> None:
    """A new grpcio may do it itself, or in another way: then this fails."""
    async with serving(Probe(), settings()) as address:
        assert read_events_at_once(asyncio.get_running_loop())
        assert await good_call(address) == "nobody"


@pytest.mark.service
@pytest.mark.parametrize("number", [1, 2, 200])
def test_of_many_bytes_one_is_left_for_the_handler(number: int) -> None:
    reading, writing = socket.socketpair()
    with reading, writing:
        writing.sendall(b"1" * number)
        left: list[bytes] = []
        read_all_but_one(reading.fileno(), lambda: left.append(reading.recv(1)))
        assert left == [b"1"]
        reading.setblocking(False)
        with pytest.raises(BlockingIOError):
            reading.recv(1)
