"""Calls of methods that are not there are answered, and never end the server."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio

from combiner_service.application import CombinerApplication
from combiner_service.settings import CombinerSettings
from service_runtime.server import serving
from tests.refused import refused
from tests.robustness import raw_http2

INFO = "/cir.combiner.v1.CombinerService/GetCombinerInfo"


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


async def test_a_request_id_that_cannot_be_sent_back_is_replaced() -> None:
    settings = CombinerSettings(port=0, log_level="error")
    async with serving(CombinerApplication(settings), settings) as address:
        headers = raw_http2.request_headers(INFO, x_request_id="\xff\xfe")
        answer = await raw_http2.send(address, raw_http2.call(headers, raw_http2.message(b"")), patience=5)
        assert raw_http2.status_of(answer) == 0
