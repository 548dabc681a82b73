"""Bytes that are not a message, and methods that do not exist: refused with a reason, the server lives on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2

from cir.combiner.v1 import combiner_pb2
from combiner_service.application import CombinerApplication
from combiner_service.settings import CombinerSettings
from service_runtime.server import serving
from tests.refused import refused
from tests.robustness import raw_http2

BROKEN = b"\xff\xff\xff"


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    """To a combiner service."""
    settings = CombinerSettings(port=0, log_level="error")
    async with (
        serving(CombinerApplication(settings), settings) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield channel


@pytest.mark.service
@pytest.mark.parametrize(
    "method",
    [
        "/cir.combiner.v1.CombinerService/Combine",
        "/cir.combiner.v1.CombinerService/GetCombinerInfo",
        "/grpc.health.v1.Health/Check",
    ],
)
async def test_a_broken_request_is_refused_with_a_reason(channel: grpc.aio.Channel, method: str) -> None:
    send: Any = channel.unary_unary(method)
    refusal = await refused(send(BROKEN, timeout=10))
    assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", "MALFORMED")
    assert "3 bytes" in refusal.message


@pytest.mark.service
async def test_text_that_is_not_utf8_is_refused(channel: grpc.aio.Channel) -> None:
    send: Any = channel.unary_unary("/cir.combiner.v1.CombinerService/Combine")
    assert (await refused(send(b"\x0a\x02\xff\xfe", timeout=10))).reason == "MALFORMED"


@pytest.mark.service
async def test_broken_requests_of_health_watch_and_reflection_are_refused(channel: grpc.aio.Channel) -> None:
    watch: Any = channel.unary_stream("/grpc.health.v1.Health/Watch")
    reflect: Any = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    for call in (watch(BROKEN, timeout=10), reflect(iter([BROKEN]), timeout=10)):
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.service
async def test_health_watch_still_streams(channel: grpc.aio.Channel) -> None:
    watch: Any = channel.unary_stream("/grpc.health.v1.Health/Watch")
    call = watch(b"", timeout=10)
    answer = health_pb2.HealthCheckResponse.FromString(await call.read())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    call.cancel()


@pytest.mark.service
async def test_a_sound_request_is_answered(channel: grpc.aio.Channel) -> None:
    send: Any = channel.unary_unary("/cir.combiner.v1.CombinerService/GetCombinerInfo")
    assert combiner_pb2.GetCombinerInfoResponse.FromString(await send(b"", timeout=10)).version


INFO = "/cir.combiner.v1.CombinerService/GetCombinerInfo"


@pytest.mark.service
async def test_a_path_that_is_not_utf8_does_not_end_the_server() -> None:
    settings = CombinerSettings(port=0, log_level="error")
    async with serving(CombinerApplication(settings), settings) as address:
        for path in (INFO + "\xff", "/\xff/\xfe", "\xff"):
            headers = raw_http2.request_headers(path)
            answer = await raw_http2.send(
                address, raw_http2.call(headers, raw_http2.message(b"")), patience=5
            )
            assert raw_http2.status_of(answer) == grpc.StatusCode.UNIMPLEMENTED.value[0]
        async with grpc.aio.insecure_channel(address) as channel:
            send: Any = channel.unary_unary(INFO)
            assert await send(b"", timeout=10)


@pytest.mark.service
async def test_unknown_methods_are_refused_one_by_one_and_many_at_once() -> None:
    settings = CombinerSettings(port=0, log_level="error")
    async with (
        serving(CombinerApplication(settings), settings) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        unknown: Any = channel.unary_unary("/cir.combiner.v1.CombinerService/Nothing")
        assert (await refused(unknown(b"", timeout=10))).code is grpc.StatusCode.UNIMPLEMENTED
        streams: Any = channel.stream_stream("/nothing.Service/Stream")
        calls = [unknown(b"", timeout=10) for _ in range(50)] + [
            streams(iter([b"", b""]), timeout=10) for _ in range(50)
        ]
        codes = await asyncio.gather(*(call.code() for call in calls))
        assert set(codes) == {grpc.StatusCode.UNIMPLEMENTED}
        send: Any = channel.unary_unary(INFO)
        assert await send(b"", timeout=10)


@pytest.mark.service
async def test_a_request_id_that_cannot_be_sent_back_is_replaced() -> None:
    settings = CombinerSettings(port=0, log_level="error")
    async with serving(CombinerApplication(settings), settings) as address:
        headers = raw_http2.request_headers(INFO, x_request_id="\xff\xfe")
        answer = await raw_http2.send(address, raw_http2.call(headers, raw_http2.message(b"")), patience=5)
        assert raw_http2.status_of(answer) == 0
