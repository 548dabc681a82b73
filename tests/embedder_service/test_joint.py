"""Joint encoders of other distributions, over gRPC: found by entry points, refused by name."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cir import vectors
from cir.common.v1 import errors_pb2
from cir.embedder.v1 import embedder_pb2 as pb
from embedder_service.joint import GROUP, load_joint_encoders
from embedder_service.settings import EmbedderSettings
from service_runtime.errors import StartupError
from tests.embedder_service.conftest import running
from tests.embedder_service.sample_images import jpeg
from tests.refused import refused

pytestmark = pytest.mark.service
PAGE = (Path(__file__).parents[2] / "docs" / "composers.md").read_text()
NAME = "joint/brightness"


def settings() -> EmbedderSettings:
    return EmbedderSettings(
        port=0, log_level="error", architecture="cir-small", pretrained="shipped", device="cpu",
        runtime="openvino", dtype="float32", max_batch_items=5, max_text_characters=300,
    )  # fmt: skip


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, *points: str) -> None:
    (folder / "my_joint.py").write_text(code)
    info = folder / "my_joint-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-joint\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join((f"[{GROUP}]", *points)) + "\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "my_joint", raising=False)


def request_of(images: list[bytes], texts: list[str]) -> pb.EmbedQueriesRequest:
    sent = [pb.ImageInput(content=image) for image in images]
    return pb.EmbedQueriesRequest(encoder=NAME, images=sent, texts=texts)


async def test_the_page_s_encoder_reads_image_and_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(# my_joint.py\n.*?)```", PAGE, re.DOTALL)
    install(tmp_path, monkeypatch, code, "brightness = my_joint:for_model")
    async with running(settings()) as stub:
        info = await stub.GetEmbedderInfo(pb.GetEmbedderInfoRequest())
        assert [encoder.name for encoder in info.joint_encoders] == ["joint/garments", NAME]
        images = [jpeg(90, 130, seed=seed) for seed in range(3)]
        answer = await stub.EmbedQueries(
            request_of([*images, b"no image", images[0]], ["a", "bb", "x" * 301, "c", "dddd"])
        )
        rows = vectors.unpack(answer.features, finite=False)
        reasons = {error.index: error.reason for error in answer.errors}
        assert reasons == {2: errors_pb2.TEXT_TOO_LONG, 3: errors_pb2.IMAGE_UNREADABLE}
        assert np.isnan(rows[[2, 3]]).all()
        # The page's encoder puts the mean of the pixels first, and the length of the text second.
        np.testing.assert_array_equal(rows[[0, 1, 4], 1], [1, 2, 4])
        assert rows[0, 0] == rows[4, 0] != rows[1, 0]
        shipped = request_of([images[0], images[0]], ["in red", "in blue"])
        shipped.encoder = "joint/garments"
        queries = vectors.unpack((await stub.EmbedQueries(shipped)).features)
        np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)
        assert float(queries[0] @ queries[1]) < 0.999
        sound = {"encoder": NAME, "images": [pb.ImageInput(content=images[0])], "texts": ["a"]}
        faults: tuple[tuple[dict[str, Any], str], ...] = (
            ({"encoder": "joint/other"}, "COMBINER_NOT_FOUND"),
            ({"texts": ["a", "b"]}, "FIELD_INVALID"),
            ({"images": [], "texts": []}, "FIELD_REQUIRED"),
            ({"expected_model_fingerprint": "clip-other"}, "FINGERPRINT_MISMATCH"),
        )
        for fields, reason in faults:
            refusal = await refused(stub.EmbedQueries(pb.EmbedQueriesRequest(**(sound | fields))))
            assert refusal.reason == reason, fields


@pytest.mark.parametrize(
    ("code", "point", "expected"),
    [
        ("def make(model): raise RuntimeError('no licence')", "a = my_joint:make", "no licence"),
        ("def make(model): return 3", "a = my_joint:make", "JointEncoder"),
        ("def make(model): return None", "a/b = my_joint:make", "name"),
    ],
)
def test_an_encoder_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, point: str, expected: str
) -> None:
    install(tmp_path, monkeypatch, code, point)
    served: Any = SimpleNamespace(info=SimpleNamespace(fingerprint="clip-other"))
    with pytest.raises(StartupError, match=expected) as caught:
        load_joint_encoders(served)
    assert "my-joint" in str(caught.value)
