"""Starting and stopping as a process, and what keeps it from starting."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from cir.embedder.v1 import embedder_pb2 as pb
from cir.embedder.v1.embedder_pb2_grpc import EmbedderServiceStub
from embedder_service.application import EmbedderApplication
from service_runtime.errors import StartupError
from tests.embedder_service.conftest import running, small_settings
from tests.embedder_service.sample_images import jpeg
from tests.embedder_service.small_config import write_config

pytestmark = pytest.mark.torch

ROOT = Path(__file__).parents[2]


def command(folder: Path, *arguments: str) -> list[str]:
    return [
        *(sys.executable, "-m", "embedder_service", "--architecture", "small", "--pretrained", "random:7"),
        *("--model-config-file", str(write_config(folder)), "--device", "cpu", "--dtype", "float32"),
        *arguments,
    ]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("CIR_")}


@pytest.mark.service
@pytest.mark.slow
def test_a_process_tells_what_it_serves_and_stops_on_sigterm(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(tmp_path, "--port", "0"), cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        facts = json.loads(process.stderr.readline())
        assert facts["event"] == "serving"
        assert facts["model"]["fingerprint"].startswith("clip-")
        assert facts["limits"]["max_batch_items"] == 256
        with grpc.insecure_channel(facts["address"]) as channel:
            request = pb.EmbedImagesRequest(images=[pb.ImageInput(content=jpeg())])
            response = EmbedderServiceStub(channel).EmbedImages(request, timeout=30)
            assert response.features.model_fingerprint == facts["model"]["fingerprint"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.service
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target-ratio", "0.5"], "setting target_ratio"),
        (["--alpha-background", "white"], "expected a colour as #rrggbb"),
        (["--max-queue-items", "3"], "max_queue_items must be at least max_batch_items"),
    ],
)
def test_what_keeps_a_process_from_starting_is_one_line(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = subprocess.run(
        command(tmp_path, "--port", "0", "--log-level", "error", *arguments),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 1
    assert message in result.stderr
    assert result.stderr.startswith("embedder_service: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.service
async def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = small_settings(tmp_path, port=taken.getsockname()[1])
        with pytest.raises(StartupError, match="cannot listen on"):
            async with running(settings):
                pass


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "ViT-X-99", "model_config_file": None}, "'ViT-X-99' is not known to open_clip"),
        ({"pretrained": "/nowhere/model.pt"}, "neither a file, nor a tag"),
        ({"device": "cuda:99"}, "CUDA devices were found"),
    ],
)
async def test_a_model_that_cannot_be_had_is_told(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    application = EmbedderApplication(small_settings(tmp_path, **changes))
    with pytest.raises(StartupError, match=message):
        await application.start()
    await application.close()


@pytest.mark.service
async def test_a_dtype_below_the_bound_is_replaced(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, dtype="bfloat16", min_dtype_cosine=1.0)
    async with running(settings) as stub:
        model = (await stub.GetEmbedderInfo(pb.GetEmbedderInfoRequest())).model
        assert model.dtype == "float32"
    async with running(small_settings(tmp_path, dtype="bfloat16")) as stub:
        info: Any = await stub.GetEmbedderInfo(pb.GetEmbedderInfoRequest())
        assert info.model.dtype == "bfloat16"
        assert 0.999 <= info.model.dtype_cosine < 1
        assert info.model.fingerprint == model.fingerprint


@pytest.mark.service
def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from embedder_service.settings import EmbedderSettings;"
        "import embedder_service.application;"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


@pytest.mark.service
async def test_info_tells_everything_that_changes_pixels(tmp_path: Path) -> None:
    changes = {"exif_orientation": False, "alpha_background": "#102030", "jpeg_draft": True}
    async with running(small_settings(tmp_path, call_timeout_seconds=7.5, **changes)) as stub:
        info = await stub.GetEmbedderInfo(pb.GetEmbedderInfoRequest(), timeout=30)
    decoding = info.decoding
    assert (decoding.exif_orientation, decoding.jpeg_draft) == (False, True)
    assert (decoding.alpha, decoding.alpha_background) == ("flatten", "#102030")
    assert {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"} <= set(decoding.formats)
    assert info.limits.call_timeout.ToTimedelta().total_seconds() == 7.5
    assert info.limits.max_preprocessed_pixels == 2 * info.limits.max_image_pixels


@pytest.mark.service
async def test_info_tells_a_dtype_that_was_refused(tmp_path: Path) -> None:
    async with running(small_settings(tmp_path, dtype="int8", min_dtype_cosine=1.0)) as stub:
        model = (await stub.GetEmbedderInfo(pb.GetEmbedderInfoRequest(), timeout=30)).model
    assert (model.dtype, model.refused_dtype, model.int8_layers) == ("float32", "int8", "")
    assert 0.9 < model.refused_dtype_cosine < 1
    async with running(small_settings(tmp_path, dtype="int8", min_dtype_cosine=0.9)) as stub:
        reduced = (await stub.GetEmbedderInfo(pb.GetEmbedderInfoRequest(), timeout=30)).model
    assert (reduced.dtype, reduced.refused_dtype) == ("int8", "")
    assert reduced.int8_layers == "attention and MLPs of both towers"
    assert reduced.fingerprint == model.fingerprint
