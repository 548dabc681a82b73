"""Starting and stopping, as a process and inside the test."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import ValidationError

from cir.combiner.v1 import combiner_pb2 as pb
from cir.combiner.v1.combiner_pb2_grpc import CombinerServiceStub
from combiner_service.application import CombinerApplication
from combiner_service.settings import CombinerSettings
from service_runtime.errors import StartupError
from tests.combiner_service.conftest import Serve, sample
from tests.combiner_service.examples import save_published, weights_of

pytestmark = pytest.mark.torch


def chosen(**settings: Any) -> CombinerSettings:
    return CombinerSettings.model_validate(settings)


async def start(**settings: Any) -> Any:
    application = CombinerApplication(chosen(**settings))
    try:
        return await application.start()
    finally:
        await application.close()


async def test_start_tells_what_is_served_and_every_limit(tmp_path: Path) -> None:
    save_published(tmp_path / "good.pt", weights_of())
    (tmp_path / "bad.pt").write_bytes(b"")
    facts = await start(checkpoint_dir=tmp_path, preload=["combiner/good"], threads=1)
    assert facts["combiners"] == ["sum", "slerp", "image", "text", "combiner/good"]
    assert list(facts["unusable"]) == ["combiner/bad"]
    assert (facts["max_batch_items"], facts["max_dimension"]) == (1024, 4096)
    assert facts["threads"] == 1


async def test_what_keeps_it_from_starting_is_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_published(tmp_path / f"{name}.pt", weights_of())
    (tmp_path / "bad.pt").write_bytes(b"")
    for settings, words in (
        ({"checkpoint_dir": tmp_path / "nowhere"}, "nowhere is not a folder that can be read; create it"),
        ({"checkpoint_dir": tmp_path / "a.pt"}, "not a folder"),
        ({"checkpoint_dir": tmp_path, "default_combiner": "combiner/nope"}, "no combiner 'combiner/nope'"),
        ({"checkpoint_dir": tmp_path, "preload": ["combiner/bad"]}, "combiner/bad cannot be used"),
        ({"default_combiner": "combiner/a"}, "there is no folder of checkpoints"),
        (
            {
                "checkpoint_dir": tmp_path,
                "preload": ["combiner/a", "combiner/b"],
                "max_loaded_networks": 1,
            },
            "2 networks are to be loaded at the start, max_loaded_networks is 1",
        ),
    ):
        with pytest.raises(StartupError, match=words):
            await start(**settings)


async def test_checkpoints_without_a_runtime_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("combiner_service.application.find_spec", lambda _: None)
    with pytest.raises(StartupError, match=r"openvino and safetensors cannot be imported from"):
        await start(checkpoint_dir=tmp_path)
    await start()


def test_a_computation_may_take_every_core_unless_set() -> None:
    assert chosen().threads_per_call == len(os.sched_getaffinity(0))
    assert chosen(threads=3).threads_per_call == 3


@pytest.mark.service
async def test_services_after_one_another_share_nothing(serve: Serve, tmp_path: Path) -> None:
    first = await serve()
    second = await serve(checkpoint_dir=tmp_path, max_batch_items=1)
    limits = [(await stub.GetCombinerInfo(pb.GetCombinerInfoRequest())).limits for stub in (first, second)]
    assert [limit.max_batch_items for limit in limits] == [1024, 1]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "combiner_service", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environment,
        check=False,
    )


@pytest.mark.service
@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (
            ["--checkpoint-dir", "/does/not/exist", "--port", "0"],
            {},
            "checkpoint_dir /does/not/exist is not a folder",
        ),
        ([], {"CIR_COMBINER_PORT": "99999"}, "port"),
        (["--worker-threads", "0"], {}, "worker_threads"),
    ],
)
def test_a_process_that_cannot_start_says_so_in_one_line(
    arguments: list[str], environment: dict[str, str], words: str
) -> None:
    ended = run(*arguments, **environment, CIR_COMBINER_LOG_LEVEL="error")
    assert ended.returncode == 1
    assert words in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


@pytest.mark.service
def test_help_lists_every_setting() -> None:
    ended = run("--help")
    assert ended.returncode == 0
    for name in CombinerSettings.model_fields:
        assert f"--{name.replace('_', '-')}" in ended.stdout


@pytest.mark.service
async def test_a_process_serves_without_torch_and_stops_on_sigterm() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "combiner_service", "--port", "0", stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        line = json.loads(await asyncio.wait_for(process.stderr.readline(), 30))
        assert line["event"] == "serving"
        assert line["combiners"] == ["sum", "slerp", "image", "text"]
        assert line["max_batch_items"] == 1024
        mapped = await asyncio.to_thread(Path(f"/proc/{process.pid}/maps").read_text)
        assert "libtorch" not in mapped
        async with grpc.aio.insecure_channel(line["address"]) as channel:
            info = await CombinerServiceStub(channel).GetCombinerInfo(
                pb.GetCombinerInfoRequest(), wait_for_ready=True, timeout=10
            )
        assert info.combiners == 4
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_metrics_and_progress_are_those_of_the_service(tmp_path: Path) -> None:
    save_published(tmp_path / "good.pt", weights_of())
    (tmp_path / "bad.pt").write_bytes(b"")
    settings = chosen(checkpoint_dir=tmp_path, default_combiner="combiner/good", port=0)
    application = CombinerApplication(settings)
    await application.start()
    try:
        collectors = application.collectors()
        assert sample(collectors, "cir_combiner_networks_loaded") == 1
        assert sample(collectors, "cir_combiner_unusable_checkpoints") == 1
        assert sample(collectors, "cir_combiner_loads_total", outcome="ok") == 1
        assert sample(collectors, "cir_combiner_waiting_items") == 0
        (progress,) = application.progress().values()
        assert progress.stalled_seconds() == 0
    finally:
        await application.close()


async def test_a_cuda_device_that_is_not_there_keeps_it_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(StartupError, match="device cuda:1 is not there; torch sees 0 CUDA devices"):
        await start(checkpoint_dir=tmp_path, device="cuda:1")
    for device in ("gpu", "cuda:", "cuda:x", "cpu "):
        with pytest.raises(ValidationError):
            chosen(device=device)
