"""Metrics and traces of calls of each kind, through a metrics port and through two services."""

from __future__ import annotations

import asyncio
import builtins
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client.parser import text_string_to_metric_families

from cir.channel import open_async_channel
from cir.combiner.v1 import combiner_pb2 as pb
from cir.combiner.v1 import combiner_pb2_grpc as rpc
from cir_cli.local.readiness import free_ports
from service_runtime import tracing as tracing_module
from service_runtime.errors import StartupError
from service_runtime.server import serving
from service_runtime.settings import ServiceSettings
from service_runtime.tracing import client_interceptors, server_interceptors, tracing
from tests.hosts import has_ipv6
from tests.refused import refused
from tests.service_runtime.example_service import COMBINE, ExampleService
from tests.service_runtime.probe import health_stub


def scrape(port: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.service
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


@pytest.mark.service
async def test_methods_that_are_not_served_make_no_series() -> None:
    port = free_ports(1)[0]
    async with (
        serving(ExampleService(), ServiceSettings(port=0, metrics_port=port)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        for number in range(20):
            send: Any = channel.unary_unary(f"/made.up/Method{number}")
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await send(b"")
            assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
        samples = await asyncio.to_thread(scrape, port)
    assert not [labels for name, labels in samples if name == "cir_calls_total"]


@pytest.mark.service
async def test_the_port_is_free_again_after_the_service_and_taken_is_a_startup_error() -> None:
    port = free_ports(1)[0]
    settings = ServiceSettings(port=0, metrics_port=port)
    async with serving(ExampleService(), settings):
        with pytest.raises(StartupError, match=f"metrics cannot listen on 127.0.0.1:{port}"):
            async with serving(ExampleService(), settings):
                pass
    async with serving(ExampleService(), settings):
        assert await asyncio.to_thread(scrape, port)


_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
_CALLER = ("traceparent", f"00-{_TRACE}-00f067aa0ba902b7-01")


async def run_calls(exporter: InMemorySpanExporter, sample_ratio: float = 1.0) -> list[ReadableSpan]:
    with tracing("example", endpoint="", sample_ratio=sample_ratio, exporter=exporter):
        async with serving(ExampleService(), ServiceSettings(port=0)) as second:
            forward = open_async_channel(second, interceptors=client_interceptors())
            async with (
                forward,
                serving(ExampleService(forward), ServiceSettings(port=0)) as first,
                grpc.aio.insecure_channel(first) as channel,
            ):
                stub = rpc.CombinerServiceStub(channel)
                answer = await stub.Combine(pb.CombineRequest(combiner="forward"), metadata=(_CALLER,))
                assert answer.combiner == "fine"
                await refused(stub.Combine(pb.CombineRequest(combiner="refuse")))
                await health_stub(channel).Check(health_pb2.HealthCheckRequest())
    return list(exporter.get_finished_spans())


@pytest.mark.service
async def test_one_trace_goes_through_every_hop() -> None:
    spans = await run_calls(InMemorySpanExporter())
    hops = [span for span in spans if format(span.context.trace_id, "032x") == _TRACE]
    assert [span.kind for span in hops] == [SpanKind.SERVER, SpanKind.CLIENT, SpanKind.SERVER]
    last, client, first = hops
    assert last.parent is not None
    assert last.parent.span_id == client.context.span_id
    assert client.parent is not None
    assert client.parent.span_id == first.context.span_id
    assert first.parent is not None
    assert first.parent.is_remote


@pytest.mark.service
async def test_refusals_are_spans_with_their_code_and_health_checks_are_none() -> None:
    spans = await run_calls(InMemorySpanExporter())
    others = [span for span in spans if format(span.context.trace_id, "032x") != _TRACE]
    assert len(others) == 1
    assert others[0].attributes is not None
    assert others[0].attributes["rpc.grpc.status_code"] == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert others[0].status.status_code is not StatusCode.OK


@pytest.mark.service
async def test_the_callers_decision_stands_and_ours_applies_to_the_rest() -> None:
    spans = await run_calls(InMemorySpanExporter(), sample_ratio=0.0)
    assert {format(span.context.trace_id, "032x") for span in spans} == {_TRACE}


def test_without_the_setting_nothing_is_traced() -> None:
    with tracing("example", endpoint="", sample_ratio=1.0):
        assert not server_interceptors()
        assert not client_interceptors()


@pytest.mark.service
@pytest.mark.parametrize("form", ["http://{}", "http://{}/", "{}"])
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_spans_reach_a_collector_whatever_proxies_are_set(
    form: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if host == "[::1]" and not has_ipv6():
        pytest.skip("this machine has no ::1")
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    received: list[bytes] = []

    def export(request: bytes, _context: object) -> bytes:
        received.append(request)
        return b""

    collector = grpc.server(ThreadPoolExecutor(1))
    handlers: Any = {"Export": grpc.unary_unary_rpc_method_handler(export)}
    name = "opentelemetry.proto.collector.trace.v1.TraceService"
    collector.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    port = collector.add_insecure_port(f"{host}:0")
    collector.start()
    with tracing("example", endpoint=form.format(f"{host}:{port}"), sample_ratio=1.0):
        assert tracing_module._provider is not None
        tracing_module._provider.get_tracer("test").start_span("a-span").end()
    collector.stop(0).wait()
    assert len(received) == 1
    assert b"a-span" in received[0]


@pytest.mark.parametrize(
    "endpoint", ["ftp://host:1", "http://host:99999", "http://", "http://a b:1", "://host:1"]
)
def test_an_endpoint_that_names_no_collector_is_refused(endpoint: str) -> None:
    with (
        pytest.raises(StartupError, match=r"^tracing_endpoint .* names no collector: "),
        tracing("example", endpoint=endpoint, sample_ratio=1.0),
    ):
        pass


def test_without_the_extra_the_setting_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ImportError(f"No module named {name}", name=name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with (
        pytest.raises(StartupError, match=r"install the extra \[tracing\]"),
        tracing("example", endpoint="http://127.0.0.1:1", sample_ratio=1.0),
    ):
        pass
