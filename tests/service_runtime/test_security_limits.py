"""Limits of connections, streams, metadata and messages on a real server, and clients that are slow."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cir.channel import MAX_MESSAGE_BYTES, new_key
from cir.client import Client
from cir.combiner.v1 import combiner_pb2 as pb
from cir.errors import InvalidArgument
from cir.requests import Call
from service_runtime import grpcio_patch
from service_runtime.server import serving
from tests.refused import refused
from tests.robustness import raw_http2
from tests.service_runtime.probe import COMBINE, Probe, channel, combine, good_call, is_alive, settings

pytestmark = pytest.mark.service

# The preface, an empty SETTINGS frame, and what opens stream 1 for a call of Combine: its headers.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


def _literal(name: bytes, value: bytes) -> bytes:
    """A header field that is not indexed (RFC 7541, 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def open_call(method: str) -> bytes:
    """HTTP/2 bytes of a call whose message is announced (4 bytes) and then never sent in whole."""
    headers = b"".join(
        _literal(name, value)
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", method.encode()),
            (b":authority", b"localhost"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        )
    )
    frame = len(headers).to_bytes(3, "big") + bytes([1, 4, 0, 0, 0, 1]) + headers
    part = b"\x00\x00\x00\x00\x04" + b"\x0a"  # 1 byte of the 4
    return PREFACE + frame + len(part).to_bytes(3, "big") + bytes([0, 0, 0, 0, 0, 1]) + part


def connect(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=10)


async def closed_within(connection: socket.socket, seconds: float) -> bool:
    """Return True when the other side closes the connection; what it sends before is dropped."""
    connection.settimeout(seconds)

    def read() -> bool:
        try:
            while connection.recv(65536):
                pass
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        return True

    return await asyncio.to_thread(read)


async def test_connections_over_the_limit_are_closed_at_once_and_leave_room_again() -> None:
    async with serving(Probe(), settings(max_connections=3)) as address:
        with ExitStack() as stack:
            first = [stack.enter_context(connect(address)) for _ in range(3)]
            await asyncio.sleep(0.2)
            for _ in range(3):
                assert await closed_within(stack.enter_context(connect(address)), 10)
            assert not await closed_within(first[0], 0.2)
        await eventually_served(address)


async def test_a_flood_of_connections_does_no_harm() -> None:
    """Most are closed at once; those that got in and send nothing lose their place after a while."""
    values = settings(max_connections=50, handshake_timeout_seconds=1)
    async with serving(Probe(), values) as address, channel(address) as early:
        assert (await combine(early)).combiner == "nobody"
        with ExitStack() as stack:
            flood = [stack.enter_context(connect(address)) for _ in range(300)]
            # Who is connected is served all the while.
            for _ in range(5):
                assert (await combine(early)).combiner == "nobody"
            assert await closed_within(flood[-1], 10)
            assert await closed_within(flood[0], 10)
            await eventually_served(address)


async def test_a_connection_that_says_nothing_is_closed_after_the_handshakes_time() -> None:
    async with serving(Probe(), settings(handshake_timeout_seconds=0.5)) as address:
        with connect(address) as silent:
            assert await closed_within(silent, 10)
    async with serving(Probe(), settings(handshake_timeout_seconds=30)) as address:
        with connect(address) as silent:
            assert not await closed_within(silent, 1)


async def test_calls_that_never_finish_their_message_hold_no_place() -> None:
    application = Probe()
    async with serving(application, settings(max_concurrent_calls=1)) as address:
        with ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(connect(address)).sendall(open_call(COMBINE))
            await asyncio.sleep(0.3)
            assert application.calls == 0
            # They are not among the calls under way, of which there may be one here.
            assert await good_call(address) == "nobody"
            assert await is_alive(address)


async def test_a_message_that_is_never_finished_is_not_waited_for_without_a_key() -> None:
    async with serving(Probe(), settings(api_keys=f"shop:read:{new_key()}")) as address:
        with connect(address) as slow:
            slow.sendall(open_call(COMBINE))
            received = b""
            while b"API key is needed" not in received.replace(b"%20", b" "):
                part = await asyncio.to_thread(slow.recv, 65536)
                assert part
                received += part


async def test_streams_over_the_limit_wait_for_others_on_their_connection() -> None:
    application = Probe()
    async with (
        serving(application, settings(max_streams_per_connection=2)) as address,
        channel(address) as one,
        channel(address) as another,
    ):
        # With a settled connection a client knows the limit, and holds calls back by itself.
        await combine(one)
        calls = []
        for _ in range(2):
            calls.append(combine(one, combiner="wait"))
            await asyncio.wait_for(application.waiting.wait(), 10)
            application.waiting.clear()
        late = combine(one, combiner="late")
        await asyncio.sleep(0.3)
        assert application.calls == 3
        assert (await combine(another)).combiner == "nobody"
        application.go.set()
        await asyncio.gather(*calls, late)
        assert application.calls == 5


async def test_too_many_entries_of_metadata_are_refused_and_the_next_calls_unread() -> None:
    application = Probe()
    async with (
        serving(application, settings(max_metadata_entries=20)) as address,
        channel(address) as one,
        channel(address) as another,
    ):
        call: Any = one.unary_unary(COMBINE)

        async def refusal(entries: int) -> str:
            metadata = tuple((f"x-{n}", "a") for n in range(entries))
            refusal = await refused(call(b"", metadata=metadata, timeout=10))
            assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", "TOO_MANY_ITEMS")
            return refusal.message

        assert "20 entries" in await refusal(20)
        await call(b"", timeout=10)
        await refusal(4 * 20)
        assert "another call on its connection" in await refusal(1)
        assert application.calls == 1
        assert (await combine(another)).combiner == "nobody"
        await asyncio.sleep(grpcio_patch.REFUSED_SECONDS)
        await call(b"", metadata=(("x", "a"),), timeout=10)
        assert application.calls == 3


@given(
    calls=st.lists(
        st.tuples(st.sampled_from(("ipv4:a:1", "ipv4:b:2", "unix:")), st.integers(0, 60), st.floats(0, 0.7)),
        max_size=30,
    )
)
def test_metadata_over_their_limit_are_never_taken_and_costly_ones_read_once_a_second(
    calls: list[tuple[str, int, float]],
) -> None:
    now = 0.0
    limit = grpcio_patch.MetadataLimit(10, clock=lambda: now)
    costly: dict[str, float] = {}
    for peer, number, later in calls:
        now += later
        read: list[int] = []

        def entries(number: int = number, read: list[int] = read) -> list[None]:
            read.append(number)
            return [None] * number

        taken = limit.takes(peer, entries)
        remembered = now < costly.get(peer, -1.0) + grpcio_patch.REFUSED_SECONDS
        assert taken == (number <= 10 and not remembered)
        assert bool(read) == (not remembered)
        if number > 10 * grpcio_patch.COSTLY and read and peer != "unix:":
            costly[peer] = now
        assert len(limit) <= 2


def test_few_connections_of_costly_metadata_are_remembered() -> None:
    limit = grpcio_patch.MetadataLimit(10)
    for number in range(grpcio_patch.MAX_REFUSED + 50):
        assert not limit.takes(f"ipv4:a:{number}", lambda: [None] * 50)
    assert len(limit) == grpcio_patch.MAX_REFUSED


async def test_pings_are_answered_however_many_come() -> None:
    number = 20_000
    async with serving(Probe(), settings()) as address:
        with connect(address) as pinging:
            frame = raw_http2.frame(6, 0, 0, b"12345678")

            def ping() -> bytes:
                pinging.sendall(raw_http2.OPENING + frame * number)
                received = b""
                while received.count(raw_http2.frame(6, 1, 0, b"12345678")) < number:
                    received += (part := pinging.recv(1 << 20))
                    assert part, "the connection was closed"
                return received

            await asyncio.wait_for(asyncio.to_thread(ping), 30)
        assert await good_call(address) == "nobody"


async def test_a_caller_with_many_calls_leaves_places_for_others() -> None:
    application = Probe()
    keys = {name: new_key() for name in ("many", "few")}
    values = settings(
        max_concurrent_calls=16, api_keys=",".join(f"{name}:read:{key}" for name, key in keys.items())
    )
    async with serving(application, values) as address, channel(address) as on:
        held = [combine(on, keys["many"], combiner="wait") for _ in range(14)]
        while application.calls < 14:  # noqa: ASYNC110  # the probe knows no events
            await asyncio.sleep(0.01)
        refusal = await refused(combine(on, keys["many"]))
        assert (refusal.code.name, refusal.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert (await combine(on, keys["few"])).combiner == "few"
        application.go.set()
        await asyncio.gather(*held)
        assert (await combine(on, keys["many"])).combiner == "many"


async def test_one_callers_calls_wait_for_each_other_and_not_those_of_others() -> None:
    class Bounded(Probe):
        calls_of_a_caller = 2

    application = Bounded()
    keys = {name: new_key() for name in ("many", "few")}
    values = settings(api_keys=",".join(f"{name}:read:{key}" for name, key in keys.items()))
    async with serving(application, values) as address, channel(address) as on:
        held = [combine(on, keys["many"], combiner="wait") for _ in range(5)]
        while application.calls < 2:  # noqa: ASYNC110  # likewise
            await asyncio.sleep(0.01)
        assert (await combine(on, keys["few"])).combiner == "few"
        assert application.calls == 3
        application.go.set()
        await asyncio.gather(*held)
        assert application.calls == 6


async def test_metadata_over_the_limit_is_refused() -> None:
    application = Probe()
    async with serving(application, settings(max_metadata_bytes=4096)) as address, channel(address) as on:
        for size, fits in ((3000, True), (5000, False), (100_000, False)):
            # Spread over entries: one alone meets another check.
            metadata = tuple((f"x-part-{n}", "a" * 1000) for n in range(size // 1000))
            send: Any = on.unary_unary(COMBINE)
            call = send(b"", metadata=metadata, timeout=10)
            if fits:
                await call
            else:
                assert (await refused(call)).code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert application.calls == 1
        assert await good_call(address) == "nobody"


async def test_a_message_over_the_limit_is_refused() -> None:
    application = Probe()
    async with serving(application, settings(max_message_bytes=10_000)) as address, channel(address) as on:
        refusal = await refused(combine(on, combiner="x" * 20_000))
        assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "20004 vs. 10000" in refusal.message
        assert application.calls == 0
        assert await good_call(address) == "nobody"


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_a_compressed_message_is_refused_with_what_to_do(algorithm: grpc.Compression) -> None:
    application = Probe()
    async with serving(application, settings()) as address:
        async with grpc.aio.insecure_channel(address, compression=algorithm) as on:
            refusal = await refused(combine(on, combiner="x" * 100_000))
        assert refusal.code is grpc.StatusCode.UNIMPLEMENTED
        assert refusal.message.startswith("Compression algorithm")
        assert application.calls == 0
        assert await good_call(address) == "nobody"


def test_our_clients_say_so_before_sending() -> None:
    request = pb.CombineRequest(combiner="x" * (MAX_MESSAGE_BYTES + 1))
    # Nothing listens there: what is refused without a connection never left this machine.
    with (
        Client("127.0.0.1:1", combiner="127.0.0.1:1") as client,
        pytest.raises(InvalidArgument, match="a message at most 67108864"),
    ):
        client.run(Call(COMBINE, request, pb.CombineResponse, lambda answer: answer))


async def eventually_served(address: str) -> None:
    """A new client gets in once those that were there are gone."""
    for _ in range(200):
        try:
            assert await good_call(address) == "nobody"
            return
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.05)
    raise AssertionError("no new client gets in")
