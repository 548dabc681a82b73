"""The watchdog: what does not move turns health and ends the process; what moves or idles does not."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2

from cir.combiner.v1 import combiner_pb2 as pb
from cir.combiner.v1 import combiner_pb2_grpc as rpc
from service_runtime.server import serving
from service_runtime.settings import ServiceSettings
from service_runtime.watchdog import EVENT_LOOP, Progress, find_stall, watch_progress
from tests.service_runtime.example_service import NAME, ExampleService
from tests.service_runtime.probe import health_stub

_SERVICE = """
import sys
from service_runtime.server import main
from service_runtime.settings import ServiceSettings
from tests.service_runtime.example_service import ExampleService
sys.exit(main(ServiceSettings, lambda settings: ExampleService()))
"""


def test_only_work_that_waits_too_long_is_named() -> None:
    now = 0.0
    idle, busy = Progress(lambda: now), Progress(lambda: now)
    busy.begin()
    now = 4.0
    assert find_stall({"idle": idle, "busy": busy}, 5) == ""
    now = 5.0
    assert find_stall({"idle": idle, "busy": busy}, 5) == "busy has made no progress for 5 s with 1 waiting"
    busy.end()
    assert find_stall({"idle": idle, "busy": busy}, 5) == ""


@pytest.mark.service
async def test_work_that_hangs_turns_health_while_calls_are_still_answered() -> None:
    application = ExampleService()
    stalled = threading.Event()
    async with (
        serving(application, ServiceSettings(port=0, watchdog_seconds=0.2), on_stall=stalled.set) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        health = health_stub(channel).Watch(health_pb2.HealthCheckRequest(service=NAME))
        states = aiter(health)
        assert (await anext(states)).status == health_pb2.HealthCheckResponse.SERVING
        stub = rpc.CombinerServiceStub(channel)
        hanging = stub.Combine(pb.CombineRequest(combiner="hang"))
        changed = await asyncio.wait_for(anext(states), 10)
        assert changed.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await asyncio.to_thread(stalled.wait, 10)
        application.go.set()
        await hanging
        health.cancel()


@pytest.mark.service
@pytest.mark.slow
async def test_an_idle_service_and_one_that_moves_are_left_alone() -> None:
    stalled = threading.Event()
    application = ExampleService()
    async with (
        serving(application, ServiceSettings(port=0, watchdog_seconds=0.5), on_stall=stalled.set) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        stub = rpc.CombinerServiceStub(channel)
        ends = time.monotonic() + 1.2
        while time.monotonic() < ends:
            await stub.Combine(pb.CombineRequest(combiner="fine"))
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.8)
        assert not stalled.is_set()


async def test_an_event_loop_that_is_blocked_is_a_stall() -> None:
    problems: list[str] = []
    stalled = threading.Event()

    def on_stall(problem: str) -> None:
        problems.append(problem)
        stalled.set()

    with watch_progress({}, limit=0.2, on_stall=on_stall):
        await asyncio.sleep(0.3)
        assert not problems
        stalled.wait(10)  # on the loop, on purpose
    assert problems[0].startswith(EVENT_LOOP)


@pytest.mark.service
@pytest.mark.slow
def test_a_process_that_is_stuck_ends_with_70(tmp_path: Path) -> None:
    for kind in ("hang", "block"):
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVICE, "--port", "0", "--watchdog-seconds", "0.3"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            address = line.partition('"address": "')[2].partition('"')[0]
            with grpc.insecure_channel(address) as channel:
                call = rpc.CombinerServiceStub(channel).Combine.future(
                    pb.CombineRequest(combiner=kind), timeout=20
                )
                assert process.wait(20) == 70, kind
                assert isinstance(call.exception(timeout=20), grpc.RpcError)
            assert '"event": "stalled"' in process.stderr.read()
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait(10)
            process.stderr.close()
