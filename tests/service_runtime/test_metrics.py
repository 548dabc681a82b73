"""Metrics: what is served on the metrics port after calls of each kind."""

from __future__ import annotations

import asyncio
import urllib.request

import grpc.aio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cir.combiner.v1 import combiner_pb2 as pb
from cir.combiner.v1 import combiner_pb2_grpc as rpc
from cir.local.ports import free_ports
from service_runtime.server import serving
from service_runtime.settings import ServiceSettings
from service_runtime.startup import StartupError
from tests.refused import refused
from tests.service_runtime.example_service import COMBINE, ExampleService


def scrape(port: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_calls_codes_reasons_and_the_services_own_are_counted() -> None:
    port = free_ports(1)[0]
    async with (
        serving(ExampleService(), ServiceSettings(port=0, metrics_port=port)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        stub = rpc.CombinerServiceStub(channel)
        for _ in range(3):
            await stub.Combine(pb.CombineRequest(combiner="fine"))
        await refused(stub.Combine(pb.CombineRequest(combiner="refuse")))
        await refused(stub.Combine(pb.CombineRequest(combiner="bug")))
        samples = await asyncio.to_thread(scrape, port)

        def calls(code: str) -> float:
            return samples[("cir_calls_total", (("code", code), ("method", COMBINE)))]

        assert (calls("OK"), calls("RESOURCE_EXHAUSTED"), calls("INTERNAL")) == (3, 1, 1)
        assert samples[("cir_refusals_total", (("reason", "OVERLOADED"),))] == 1
        assert samples[("cir_call_seconds_count", (("method", COMBINE),))] == 5
        assert samples[("cir_calls_under_way", ())] == 0
        assert samples[("cir_calls_limit", ())] == 256
        assert samples[("cir_example_things", ())] == 7
        assert samples[("process_resident_memory_bytes", ())] > 0
        assert any(name == "cir_service_info" for name, _ in samples)


async def test_methods_that_are_not_served_make_no_series() -> None:
    port = free_ports(1)[0]
    async with (
        serving(ExampleService(), ServiceSettings(port=0, metrics_port=port)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        for number in range(20):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await channel.unary_unary(f"/made.up/Method{number}")(b"")
            assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
        samples = await asyncio.to_thread(scrape, port)
    assert not [labels for name, labels in samples if name == "cir_calls_total"]


async def test_the_port_is_free_again_after_the_service_and_taken_is_a_startup_error() -> None:
    port = free_ports(1)[0]
    settings = ServiceSettings(port=0, metrics_port=port)
    async with serving(ExampleService(), settings):
        with pytest.raises(StartupError, match=f"metrics cannot listen on 127.0.0.1:{port}"):
            async with serving(ExampleService(), settings):
                pass
    async with serving(ExampleService(), settings):
        assert await asyncio.to_thread(scrape, port)
