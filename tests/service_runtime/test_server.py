"""A service's life as a process and as a server, with the search service's settings left out."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from cir.combiner.v1 import combiner_pb2 as pb
from cir.combiner.v1 import combiner_pb2_grpc as rpc
from cir.common.v1 import errors_pb2
from service_runtime.errors import ServiceError, StartupError
from service_runtime.server import Application, serving
from service_runtime.settings import ServiceSettings
from tests.refused import refused
from tests.service_runtime.probe import health_stub, reflection_stub

NAME = "cir.combiner.v1.CombinerService"


class Slow(Application, rpc.CombinerServiceServicer):
    """A service that answers when its event is set."""

    service_names = (NAME,)

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.entered = asyncio.Event()
        self.closed = False
        self.cancelled = False
        self.starting: asyncio.Event | None = None

    def register(self, server: grpc.aio.Server) -> None:
        rpc.add_CombinerServiceServicer_to_server(self, server)

    async def start(self) -> Mapping[str, object]:
        if self.starting is not None:
            await self.starting.wait()
        return {}

    async def close(self) -> None:
        self.closed = True

    async def Combine(self, request: pb.CombineRequest, context: Any) -> pb.CombineResponse:
        self.entered.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if request.combiner == "bug":
            raise ZeroDivisionError("a bug")
        if request.combiner == "layer below":
            raise LookupError("not there")
        if request.combiner == "refuse":
            raise ServiceError(errors_pb2.OVERLOADED, "too much", retry_after=1.25)
        return pb.CombineResponse(combiner=request.combiner)

    def translate(self, error: Exception) -> ServiceError | None:
        if type(error) is LookupError:
            return ServiceError(errors_pb2.COMBINER_NOT_FOUND, str(error), field="combiner")
        return None

    async def GetCombinerInfo(self, request: Any, context: Any) -> pb.GetCombinerInfoResponse:
        return pb.GetCombinerInfoResponse(version="1")


def settings(**values: Any) -> ServiceSettings:
    return ServiceSettings(port=0, shutdown_grace_seconds=5, **values)


async def health(channel: grpc.aio.Channel, name: str) -> int:
    answer = await health_stub(channel).Check(health_pb2.HealthCheckRequest(service=name))
    return int(answer.status)


@pytest.mark.service
async def test_alive_while_starting_ready_when_started() -> None:
    application = Slow()
    application.starting = asyncio.Event()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    served = asyncio.Event()

    async def serve() -> None:
        async with serving(application, ServiceSettings(port=port)):
            served.set()
            await application.go.wait()

    task = asyncio.create_task(serve())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await asyncio.wait_for(channel.channel_ready(), 10)
        assert await health(channel, "") == health_pb2.HealthCheckResponse.SERVING
        assert await health(channel, NAME) == health_pb2.HealthCheckResponse.NOT_SERVING
        refusal = await refused(rpc.CombinerServiceStub(channel).GetCombinerInfo(pb.GetCombinerInfoRequest()))
        assert (refusal.code.name, refusal.reason) == ("UNAVAILABLE", "NOT_READY")
        application.starting.set()
        await asyncio.wait_for(served.wait(), 10)
        assert await health(channel, NAME) == health_pb2.HealthCheckResponse.SERVING
    application.go.set()
    await task
    assert application.closed


@pytest.mark.service
async def test_running_calls_finish_and_health_turns_when_the_server_stops() -> None:
    application = Slow()
    context = serving(application, settings())
    address = await context.__aenter__()
    async with grpc.aio.insecure_channel(address) as channel:
        call = rpc.CombinerServiceStub(channel).Combine(pb.CombineRequest(combiner="x"))
        watch = health_stub(channel).Watch(health_pb2.HealthCheckRequest(service=NAME))
        states = aiter(watch)
        assert (await anext(states)).status == health_pb2.HealthCheckResponse.SERVING
        await asyncio.wait_for(application.entered.wait(), 10)
        stopping = asyncio.create_task(context.__aexit__(None, None, None))
        assert (await anext(states)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        application.go.set()
        assert (await call).combiner == "x"
        await asyncio.wait_for(stopping, 10)
    assert application.closed


@pytest.mark.service
async def test_over_the_limit_calls_are_refused_and_health_answers() -> None:
    application = Slow()
    async with (
        serving(application, settings(max_concurrent_calls=1)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        stub = rpc.CombinerServiceStub(channel)
        first = stub.Combine(pb.CombineRequest())
        await asyncio.wait_for(application.entered.wait(), 10)
        refusal = await refused(stub.Combine(pb.CombineRequest()))
        assert (refusal.code.name, refusal.reason, refusal.retry_after) == (
            "RESOURCE_EXHAUSTED",
            "OVERLOADED",
            0.2,
        )
        assert await health(channel, NAME) == health_pb2.HealthCheckResponse.SERVING
        assert (await stub.GetCombinerInfo(pb.GetCombinerInfoRequest())).version == "1"
        application.go.set()
        await first
        await stub.Combine(pb.CombineRequest())


@pytest.mark.service
async def test_refusals_and_bugs_have_their_codes_and_the_next_call_works() -> None:
    application = Slow()
    application.go.set()
    async with serving(application, settings()) as address, grpc.aio.insecure_channel(address) as channel:
        stub = rpc.CombinerServiceStub(channel)
        refusal = await refused(stub.Combine(pb.CombineRequest(combiner="refuse")))
        assert (refusal.code.name, refusal.retry_after) == ("RESOURCE_EXHAUSTED", 1.25)
        refusal = await refused(stub.Combine(pb.CombineRequest(combiner="bug")))
        assert refusal.code.name == "INTERNAL"
        assert "a bug" not in refusal.message
        assert (await stub.Combine(pb.CombineRequest(combiner="fine"))).combiner == "fine"


@pytest.mark.service
async def test_errors_of_the_layers_below_end_a_call_as_the_application_translates_them() -> None:
    application = Slow()
    application.go.set()
    async with serving(application, settings()) as address, grpc.aio.insecure_channel(address) as channel:
        call = rpc.CombinerServiceStub(channel).Combine(pb.CombineRequest(combiner="layer below"))
        refusal = await refused(call)
        assert (refusal.code.name, refusal.reason) == ("NOT_FOUND", "COMBINER_NOT_FOUND")
        assert (refusal.message, refusal.field) == ("not there", "combiner")


@pytest.mark.service
async def test_cancelled_calls_stop_and_make_room() -> None:
    application = Slow()
    async with (
        serving(application, settings(max_concurrent_calls=1)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        stub = rpc.CombinerServiceStub(channel)
        call = stub.Combine(pb.CombineRequest())
        await asyncio.wait_for(application.entered.wait(), 10)
        call.cancel()
        for _ in range(100):
            if application.cancelled:
                break
            await asyncio.sleep(0.02)
        assert application.cancelled
        application.go.set()
        await stub.Combine(pb.CombineRequest())


@pytest.mark.service
async def test_request_id_is_kept_or_made() -> None:
    application = Slow()
    application.go.set()
    async with serving(application, settings()) as address, grpc.aio.insecure_channel(address) as channel:
        stub = rpc.CombinerServiceStub(channel)
        for given, kept in (("mine", True), ("x" * 200, False)):
            call = stub.Combine(pb.CombineRequest(), metadata=(("x-request-id", given),))
            await call
            sent_back = dict(await call.trailing_metadata())["x-request-id"]
            assert (sent_back == given) is kept
            assert sent_back


@pytest.mark.service
async def test_a_refused_call_has_its_request_id_too() -> None:
    application = Slow()
    application.go.set()
    async with serving(application, settings()) as address, grpc.aio.insecure_channel(address) as channel:
        stub = rpc.CombinerServiceStub(channel)
        for kind in ("refuse", "bug"):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await stub.Combine(pb.CombineRequest(combiner=kind), metadata=(("x-request-id", "mine"),))
            trailers = dict(raised.value.trailing_metadata() or ())
            assert trailers["x-request-id"] == "mine"
            assert "grpc-status-details-bin" in trailers


@pytest.mark.service
async def test_reflection_names_the_services() -> None:
    async with serving(Slow(), settings()) as address, grpc.aio.insecure_channel(address) as channel:
        stub = reflection_stub(channel)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        async for answer in call:
            names = {service.name for service in answer.list_services_response.service}
            assert names == {NAME, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
            break
        call.cancel()


async def test_a_port_in_use_is_a_startup_error() -> None:
    async with serving(Slow(), settings()) as address:
        port = int(address.rsplit(":", 1)[1])
        with pytest.raises(StartupError, match=f"cannot listen on 127.0.0.1:{port}"):
            async with serving(Slow(), ServiceSettings(port=port)):
                pass


def run_search(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_program("search_service", *arguments, **environment)


def run_program(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.service
@pytest.mark.slow
def test_processes_that_cannot_start_say_why_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        cases = [
            (["--port", "99999"], "port"),
            (["--no-such-setting", "1"], "no-such-setting"),
            (["--config", str(tmp_path / "none.toml")], "does not exist"),
            (["--store", "nonsense://x"], "nonsense"),
            (["--store", f"edge://{tmp_path}", "--port", port], "cannot listen"),
        ]
        for arguments, words in cases:
            done = run_search(*arguments, CIR_SEARCH_MAX_RESULT="5", CIR_EMBEDDER_DTPYE="int8")
            assert done.returncode != 0, arguments
            assert words in done.stderr.splitlines()[-1], done.stderr
            assert "Traceback" not in done.stderr
        # A misspelt setting stops nothing. It is warned of, and those of other programs are not.
        web = run_program("http_gateway", "--port", port, CIR_HTTP_PROT="1", CIR_SEARCH_MAX_RESULT="5")
        for ended, wrong, near in (
            (done, "CIR_SEARCH_MAX_RESULT", "CIR_SEARCH_MAX_RESULTS"),
            (web, "CIR_HTTP_PROT", "CIR_HTTP_PORT"),
        ):
            (warned,) = [line for line in ended.stderr.splitlines() if "no setting" in line]
            facts = json.loads(warned)
            assert (facts["level"], facts["variable"], facts["did_you_mean"]) == ("warning", wrong, near)


@pytest.mark.service
def test_settings_come_from_arguments_over_environment_over_file(tmp_path: Path) -> None:
    file = tmp_path / "search.toml"
    file.write_text("max_turns = 3\nmax_results = 4\nport = 70000\n")
    done = run_search(
        "--config", str(file), "--max-turns", "x", CIR_SEARCH_MAX_RESULTS="5", CIR_SEARCH_PORT="50050"
    )
    assert "max_turns" in done.stderr
    assert "max_results" not in done.stderr
    done = run_search("--config", str(file))
    assert "port" in done.stderr.splitlines()[-1]


@pytest.mark.service
def test_sigterm_stops_a_process_cleanly(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "search_service", "--port", "0", "--store", f"edge://{tmp_path}"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert '"event": "serving"' in line
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    process.stderr.close()
