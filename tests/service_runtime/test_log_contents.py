"""What users sent is in no output, however a handler fails: logs in both formats, traces, metrics."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cir.combiner.v1 import combiner_pb2 as pb
from cir.combiner.v1 import combiner_pb2_grpc as rpc
from cir.common.v1 import errors_pb2
from cir.common.v1.vectors_pb2 import VectorBatch
from cir_cli.local.readiness import free_ports
from service_runtime.contract import named_part, request_of
from service_runtime.error_report import report_error
from service_runtime.errors import ServiceError
from service_runtime.logging import configure_logging, get_logger
from service_runtime.server import serving
from service_runtime.settings import ServiceSettings
from service_runtime.tracing import tracing
from tests.random_messages import filled
from tests.refused import refused
from tests.service_runtime.example_service import ExampleService
from tests.service_runtime.failing_services import SERVICES, WAYS, Quoting, convert

MARK = "secret7f3a"
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def failing_services(folder: Path, style: str, metrics_port: int) -> Iterator[tuple[str, Callable[[], str]]]:
    """Run the failing services; yield their address and what reads all that they have written."""
    port = free_ports(1)[0]
    written = folder / "output"
    with written.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.service_runtime.failing_services"],
            cwd=ROOT,
            stdout=output,
            stderr=output,
            env=os.environ
            | {
                "PYTHONPATH": str(ROOT),
                "PYTHONWARNINGS": "always",
                "CIR_FAILING_PORT": str(port),
                "CIR_FAILING_LOG_FORMAT": style,
                "CIR_FAILING_LOG_LEVEL": "debug",
                "CIR_FAILING_METRICS_PORT": str(metrics_port),
            },
        )
    try:
        while '"serving"' not in written.read_text() and "serving  " not in written.read_text():
            assert process.poll() is None, written.read_text()
            time.sleep(0.05)
        yield f"127.0.0.1:{port}", written.read_text
    finally:
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.service
@pytest.mark.parametrize("style", ["json", "console"])
async def test_no_output_has_what_was_sent_to_a_handler_that_fails(tmp_path: Path, style: str) -> None:
    metrics_port = free_ports(1)[0]
    sent = [("x-api-key", MARK), ("x-way-bin", MARK.encode()), ("tracestate", MARK)]
    calls = 0
    with failing_services(tmp_path, style, metrics_port) as (address, read):
        async with grpc.aio.insecure_channel(address, [("grpc.primary_user_agent", MARK)]) as channel:
            for name, (module, _) in SERVICES.items():
                for method in module.DESCRIPTOR.services_by_name[name.rpartition(".")[2]].methods:
                    request = filled(method.input_type, MARK)
                    for way in WAYS:
                        send: Any = (
                            channel.stream_unary if method.client_streaming else channel.unary_unary
                        )(f"/{name}/{method.name}")
                        content = iter([request]) if method.client_streaming else request
                        refusal = await refused(send(content, timeout=30, metadata=(("x-way", way), *sent)))
                        assert refusal.code is grpc.StatusCode.INTERNAL
                        assert MARK not in refusal.message
                        calls += 1
        metrics = await asyncio.to_thread(read_metrics, metrics_port)
        output = read()
    assert MARK not in output
    assert MARK not in metrics
    assert "cir_calls_total" in metrics
    # What happened is told all the same: each call, where it failed, and what else went wrong.
    assert output.count("call failed") == calls
    assert output.count("tests/service_runtime/failing_services.py:") > 2 * calls
    for event in ("a thread ended by an error", "an error that nobody awaited", "library"):
        assert event in output
    if style == "json":
        assert all(json.loads(line)["event"] for line in output.splitlines())


def read_metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


@pytest.mark.service
async def test_spans_have_no_text_of_errors_refusals_or_metadata() -> None:
    exporter = InMemorySpanExporter()
    with tracing("example", endpoint="", sample_ratio=1.0, exporter=exporter):
        async with (
            serving(ExampleService(), ServiceSettings(port=0)) as address,
            grpc.aio.insecure_channel(address, [("grpc.primary_user_agent", MARK)]) as channel,
        ):
            stub = rpc.CombinerServiceStub(channel)
            metadata = (
                ("tracestate", f"shop={MARK}"),
                ("traceparent", f"00-{'4b' * 16}-{'0f' * 8}-01"),
                ("baggage", f"shop={MARK}"),
                ("x-shop", MARK),
            )
            features = VectorBatch(model_fingerprint=MARK)
            for kind in ("quote", "quoting refusal"):
                await refused(
                    stub.Combine(pb.CombineRequest(combiner=kind, text_features=features), metadata=metadata)
                )
            await stub.Combine(pb.CombineRequest(combiner="fine", text_features=features), metadata=metadata)
    spans = exporter.get_finished_spans()
    assert len(spans) == 3
    assert {span.status.is_ok for span in spans} == {True, False}
    for span in spans:
        assert MARK not in span.to_json()
        assert MARK not in str(span.get_span_context())
        assert span.attributes
        assert span.attributes["rpc.method"] == "Combine"


@pytest.mark.service
@pytest.mark.parametrize("style", ["json", "console"])
async def test_a_refusal_is_logged_with_its_reason_and_field_not_its_text(style: str) -> None:
    with logged(style) as output:
        async with (
            serving(ExampleService(), ServiceSettings(port=0)) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            call = rpc.CombinerServiceStub(channel).Combine(
                pb.CombineRequest(
                    combiner="quoting refusal", text_features=VectorBatch(model_fingerprint=MARK)
                ),
                metadata=(("x-request-id", f"{MARK} {MARK}"),),
            )
            assert MARK in (await refused(call)).message
    assert MARK not in output.getvalue()
    assert "FIELD_INVALID" in output.getvalue()
    assert "text_features.model_fingerprint" in output.getvalue()


@contextmanager
def logged(style: str) -> Iterator[io.StringIO]:
    """Log in a format while the block lasts; yield what is written."""
    output = io.StringIO()
    try:
        with redirect_stderr(output):
            configure_logging("info", style)
            yield output
    finally:
        configure_logging("info", "console")


_TEXTS = st.text(st.characters(codec="utf-8"), min_size=1).map(lambda text: MARK + text)
_VALUES = st.one_of(_TEXTS, _TEXTS.map(str.encode), st.lists(_TEXTS), st.dictionaries(_TEXTS, _TEXTS))


@given(
    value=_VALUES, kind=st.sampled_from([ValueError, KeyError, OSError, UnicodeError, Quoting, SystemError])
)
def test_no_error_is_reported_by_what_it_says(value: object, kind: type[Exception]) -> None:
    def fail(local: object) -> None:
        try:
            convert(local, "raise")
        except Quoting as error:
            raise kind(local) from error

    with pytest.raises(kind) as raised:
        fail(value)
    report = report_error(raised.value)
    assert MARK not in report
    assert kind.__name__ in report
    assert "caused by" in report
    for style in ("json", "console"):
        with logged(style) as output:
            get_logger().error("call failed", exc_info=raised.value)
        assert MARK not in output.getvalue()
        assert kind.__name__ in output.getvalue()


def test_codes_from_closed_lists_are_reported() -> None:
    assert report_error(OSError(28, MARK, MARK)) == "OSError ENOSPC"
    assert report_error(OSError(MARK)) == "OSError"
    assert report_error(ServiceError(errors_pb2.MALFORMED, MARK)).endswith("ServiceError INVALID_ARGUMENT")


def test_a_report_is_bounded_whatever_led_to_the_error() -> None:
    def deep(levels: int) -> None:
        if levels:
            return deep(levels - 1)
        raise RecursionError(MARK)

    error: Exception = ValueError()
    for number in range(200):
        try:
            deep(300)
        except RecursionError as caught:
            caught.__cause__ = error
            error = ExceptionGroup(MARK, [caught, *(ValueError(number) for number in range(300))])
    assert len(report_error(error)) < 32_000
    error.__cause__ = error
    assert report_error(error)


@pytest.mark.parametrize("style", ["json", "console"])
def test_an_error_while_twenty_megabytes_are_handled_costs_little(style: str) -> None:
    content = [bytes(20 << 20), {"text": "x" * (20 << 20)}, list(range(500_000))]

    def fail(local: object) -> None:
        raise ValueError(f"could not convert {local!r}")

    with pytest.raises(ValueError, match="could not") as raised:
        fail(content)
    with logged(style) as output:
        get_logger().error("warm", exc_info=ValueError())
        started = time.process_time()
        get_logger().error("call failed", exc_info=raised.value)
        seconds = time.process_time() - started
    assert seconds < 0.05
    assert len(output.getvalue()) < 4000


def test_the_part_of_a_fields_path_that_the_contract_names() -> None:
    request = request_of("/cir.search.v1.CatalogService/BatchUpsertItems")
    assert named_part(request, "items[3].item.payload.fields.secret") == "items[3].item.payload.fields"
    assert named_part(request, "items[3].secret") == "items[3]"
    assert named_part(request, "secret") == ""
    assert named_part(request, "") == ""
    assert named_part(request_of("/no.Service/Method"), "items") == ""
