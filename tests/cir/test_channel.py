"""Channels and replicas that are gone without closing their connections."""

from __future__ import annotations

from contextlib import AsyncExitStack

import grpc
import grpc.aio
import pytest

from cir import channel
from tests.relay import Relay

pytestmark = pytest.mark.service


async def _replica(stack: AsyncExitStack, name: bytes) -> int:
    async def answer(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return name

    server = grpc.aio.server(options=[("grpc.http2.min_recv_ping_interval_without_data_ms", 10)])
    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Names", {"Tell": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stack.push_async_callback(server.stop, None)
    return port


async def test_two_replicas_share_the_calls() -> None:
    async with AsyncExitStack() as stack:
        ports = [await _replica(stack, name) for name in (b"first", b"second")]
        address = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
        async with channel.open_async_channel(address) as opened:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = opened.unary_unary("/test.Names/Tell")
            connected: set[bytes] = set()
            while len(connected) < 2:
                connected.add(await call(b"", timeout=5))
            answers = [await call(b"", timeout=5) for _ in range(40)]
            assert answers.count(b"first") == answers.count(b"second") == 20


async def test_a_replica_that_is_gone_without_a_word_costs_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    soon = {"grpc.keepalive_time_ms": 300, "grpc.http2.ping_timeout_ms": 300}
    assert soon.keys() <= dict(channel.OPTIONS).keys()
    monkeypatch.setattr(channel, "OPTIONS", tuple((dict(channel.OPTIONS) | soon).items()))
    async with AsyncExitStack() as stack:
        relays = [Relay(await _replica(stack, name)) for name in (b"first", b"second")]
        ports = [await stack.enter_async_context(relay) for relay in relays]
        address = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
        async with channel.open_async_channel(address) as opened:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = opened.unary_unary("/test.Names/Tell")
            answers: set[bytes] = set()
            while len(answers) < 2:
                answers.add(await call(b"", timeout=5))
            await relays[0].freeze()
            # Every second one meets the frozen connection first.
            assert all([await call(b"", timeout=5) for _ in range(4)])


@pytest.mark.parametrize("size", [1 << 10, 1 << 18, 8 << 20])
async def test_a_call_that_met_no_service_is_sent_again_whatever_its_size(size: int) -> None:
    sizes: list[int] = []

    async def answer(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        sizes.append(len(request))
        if len(sizes) < 3:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return b"done"

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", channel.MAX_MESSAGE_BYTES)])
    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Names", {"Tell": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with channel.open_async_channel(f"127.0.0.1:{port}") as opened:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = opened.unary_unary("/test.Names/Tell")
            assert await call(bytes(size), timeout=30) == b"done"
    finally:
        await server.stop(None)
    assert sizes == [size] * 3
