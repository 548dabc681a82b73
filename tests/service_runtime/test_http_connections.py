"""Places of connections: who gives way to whom, and when one counts as idle."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse
from uvicorn.server import ServerState

from service_runtime.http_connections import ConnectionPlaces, bounded_protocol

HOSTS = "aaaabcdefgh"
ACTS = st.tuples(
    st.sampled_from(("enter", "enter", "busy", "busy", "idle", "leave")),
    st.sampled_from(HOSTS),
    st.integers(0, 30),
)


@given(most=st.sampled_from((1, 2, 8, 9, 16, 24)), acts=st.lists(ACTS, min_size=80, max_size=120))
def test_the_longest_idle_of_the_host_with_most_gives_way_and_nothing_that_is_busy(
    most: int, acts: list[tuple[str, str, int]]
) -> None:
    gave_way: list[int] = []
    places: ConnectionPlaces[int] = ConnectionPlaces(most, gave_way.append)
    few = most // 8
    host_of: dict[int, str] = {}
    idle: list[int] = []  # the longest idle first
    for number, (act, host, chosen) in enumerate(acts):
        there = list(host_of)
        one = there[chosen % len(there)] if there else -1
        if act == "enter":
            held = Counter(host_of.values())
            many = 0 < few <= held[host]
            going: int | None = None
            free = len(there) < (most - few if many else most)
            if not free and idle:
                top = max(held[host_of[each]] for each in idle)
                if not many or top >= held[host]:
                    going = next(each for each in idle if held[host_of[each]] == top)
            gave_way.clear()
            assert places.enter(host, number) == (free or going is not None)
            assert gave_way == ([] if going is None else [going])
            if going is not None:
                del host_of[going]
                idle.remove(going)
            if free or going is not None:
                host_of[number] = host
                idle.append(number)
        elif act == "busy":
            places.set_busy(one)
            idle = [each for each in idle if each != one]
        elif act == "idle":
            places.set_idle(one)
            idle += [one] if one in host_of and one not in idle else []
        else:
            places.leave(one)
            host_of.pop(one, None)
            idle = [each for each in idle if each != one]
        assert places.taken == len(host_of) <= most
    for each in list(host_of):
        places.leave(each)
    assert places.taken == 0


@given(busy=st.lists(st.booleans(), min_size=300, max_size=300))
def test_a_host_that_opens_connections_without_end_keeps_nobody_out_and_ends_its_own_alone(
    busy: list[bool],
) -> None:
    gave_way: list[int] = []
    places: ConnectionPlaces[int] = ConnectionPlaces(64, gave_way.append)
    others = [-1, -2, -3]
    for one in others:
        assert places.enter("other", one)
    for number, is_busy in enumerate(busy):
        if places.enter("greedy", number) and is_busy:
            places.set_busy(number)
    for number, host in enumerate("vwxyz", start=10):
        assert places.enter(host, -number)
    assert not [one for one in gave_way if one < 0]


def test_a_host_with_few_connections_gets_further_ones_of_hosts_with_fewer() -> None:
    gave_way: list[int] = []
    places: ConnectionPlaces[int] = ConnectionPlaces(64, gave_way.append)
    for number in range(61):
        assert places.enter(f"once {number}", number)
    for number in range(61, 68):
        assert places.enter("browser", number)
        places.set_busy(number)
    assert gave_way == [0, 1, 2, 3]


class Transport(asyncio.Transport):
    """A connection that takes everything but `unsent` bytes."""

    def __init__(self) -> None:
        super().__init__({"peername": ("10.0.0.1", 4242)})
        self.unsent = 0
        self.closed = False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def write(self, data: Any) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Server:
    """Connections of one server, each of which answers every request with "ok"."""

    def __init__(self, most: int) -> None:
        config = uvicorn.Config(PlainTextResponse("ok"), log_config=None, timeout_keep_alive=1000)
        self._arguments: dict[str, Any] = {
            "config": config,
            "server_state": ServerState(),
            "app_state": {},
        }
        self._kind: Any = bounded_protocol(most, 1000.0)

    def connect(self) -> tuple[Any, Transport]:
        protocol, transport = self._kind(**self._arguments), Transport()
        protocol.connection_made(transport)
        return protocol, transport


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
BEGUN = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab"


@pytest.mark.parametrize(
    ("received", "idle"),
    [
        ((), True),
        ((WHOLE,), True),
        ((WHOLE, WHOLE), True),
        ((WHOLE + WHOLE,), True),
        ((b"G",), False),
        ((WHOLE, b"GET /"), False),
        ((WHOLE + b"GET /",), False),
        ((WHOLE[:-2],), False),
        ((WHOLE[:-2], WHOLE[-2:]), True),
        ((BEGUN,), False),  # answered, and goes on
        ((BEGUN, b"cd"), True),
        ((BEGUN, b"cd" + WHOLE), True),
    ],
)
async def test_a_connection_is_idle_while_nothing_of_a_request_is_under_way(
    received: tuple[bytes, ...], idle: bool
) -> None:
    server = Server(1)
    protocol, transport = server.connect()
    for data in received:
        protocol.data_received(data)
        await settle()
    assert not transport.closed
    other = server.connect()[1]
    assert (transport.closed, other.closed) == (idle, not idle)
    if not idle:
        return
    # What is idle is closed after a time, also where nobody needs its place.
    assert protocol.timeout_keep_alive_task is not None


async def test_an_answer_that_is_not_taken_yet_is_under_way() -> None:
    server = Server(1)
    protocol, transport = server.connect()
    transport.unsent = 10
    protocol.data_received(WHOLE)
    await settle()
    assert server.connect()[1].closed
    assert not transport.closed
    transport.unsent = 0
    protocol.data_received(WHOLE)
    await settle()
    assert not server.connect()[1].closed
    assert transport.closed


async def test_nothing_is_kept_of_a_connection_that_was_reset() -> None:
    server = Server(1)
    protocol, transport = server.connect()
    protocol.data_received(WHOLE)
    await settle()
    protocol.connection_lost(ConnectionResetError())
    kept = weakref.ref(protocol)
    del protocol, transport
    gc.collect()
    assert kept() is None
    assert not server.connect()[1].closed
