"""The shipped model by OpenVINO: bad folders are refused in one line, and good ones need no torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder_service.images.preprocess import Interpolation
from embedder_service.light.folder import PROBE, TOKENIZER, file_digest
from embedder_service.light.model import load_light
from embedder_service.light.source import TEXTUAL, VISUAL
from embedder_service.loading import SHIPPED, load_served
from embedder_service.probe import PROBE_TEXTS, probe_images, smallest_cosine
from embedder_service.served import ServedModel
from embedder_service.settings import EmbedderSettings
from service_runtime.errors import StartupError
from service_runtime.memory import give_back_memory
from service_runtime.openvino_core import core, precision

FOLDER = SHIPPED / "cir-small"


def load(path: Path = FOLDER, **settings: Any) -> ServedModel:
    chosen: dict[str, Any] = {"device": "cpu", "dtype": "float32", "threads": 1, "device_lanes": 1}
    return load_light(EmbedderSettings(architecture=f"local-dir:{path}", **(chosen | settings)), path)


@pytest.fixture(scope="module")
def served() -> ServedModel:
    return load(device_lanes=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "model"))


def change(folder: Path, **facts: Any) -> None:
    """Change the document, and bring its digests up to date."""
    path = folder / "cir_model.json"
    document = json.loads(path.read_text())
    document["files"] = {
        name: file_digest(folder / name) if (folder / name).is_file() else "0" * 64
        for name in document["files"]
    }
    path.write_text(json.dumps(document | facts))


def refusal(folder: Path, **settings: Any) -> str:
    with pytest.raises(StartupError) as caught:
        load(folder, **settings)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    return str(caught.value)


@pytest.mark.slow
def test_features_do_not_depend_on_the_batch_or_the_lane(served: ServedModel) -> None:
    model = served.model
    pixels = probe_images(model.image_size)
    images, texts = model.encode_images(pixels), model.encode_texts(PROBE_TEXTS)
    alone = np.concatenate([model.encode_images(part[None]) for part in pixels])
    assert np.abs(images - alone).max() < 1e-4
    assert np.abs(texts - np.concatenate([model.encode_texts([text]) for text in PROBE_TEXTS])).max() < 1e-4
    assert served.share_device is not None
    served.share_device(2)
    assert np.abs(model.encode_images(pixels) - images).max() < 1e-4
    served.share_device(1)


@pytest.mark.slow
def test_what_passes_computed_in_is_given_back_and_taken_again(served: ServedModel) -> None:
    model = served.model
    pixels = np.random.default_rng(0).integers(0, 256, (32, model.image_size, model.image_size, 3), np.uint8)
    wanted = model.encode_images(pixels)
    assert served.release_memory is not None
    before = anonymous_bytes()
    served.release_memory()
    give_back_memory()
    # Float32 pixels of the batch alone are as many.
    assert before - anonymous_bytes() > 4 * pixels.size
    assert np.array_equal(model.encode_images(pixels), wanted)


def anonymous_bytes() -> int:
    """Return the bytes that this process holds by itself."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return int(rollup.partition("Anonymous:")[2].split()[0]) << 10


def test_a_large_model_is_given_two_lanes_where_nobody_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(threads=2, device_lanes=0).lanes == 1
    monkeypatch.setattr("embedder_service.light.model._LARGE_BYTES", 1)
    assert load(threads=1, device_lanes=0).lanes == 1
    large = load(threads=2, device_lanes=0)
    assert large.lanes == 2
    assert load(threads=2, device_lanes=3).lanes == 3


def test_pixels_are_normalised_as_published(served: ServedModel) -> None:
    """The first thing that a tower computes; here on the tower alone, which takes pixels that are normal."""
    pixels = probe_images(served.model.image_size)
    mean, std = (np.asarray(values, np.float32) for values in (served.info.mean, served.info.std))
    normal = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    bare = core.compile_model(core.read_model(FOLDER / VISUAL), "CPU", precision("float32"))
    expected = bare.create_infer_request().infer([np.ascontiguousarray(normal.transpose(0, 3, 1, 2))])[0]
    assert np.abs(served.model.encode_images(pixels) - expected).max() < 1e-5


def test_padding_beyond_a_text_changes_nothing(served: ServedModel) -> None:
    model = served.model
    short, long = "a red dress", "word " * 100
    together = model.encode_texts([short, long])
    assert np.abs(together[0] - model.encode_texts([short])[0]).max() < 1e-4
    tokens = model.tokenize([short, long])
    assert model.long_texts([short, long], tokens) == {1: 102}


def test_settings_of_preprocessing_go_before_those_of_the_folder(served: ServedModel) -> None:
    other = load(mean="0.5", interpolation="bilinear")
    assert other.info.fingerprint != served.info.fingerprint
    assert list(other.info.mean) == [0.5] * 3
    assert other.preprocessor.interpolation is Interpolation.BILINEAR
    pixels = probe_images(served.model.image_size)
    assert smallest_cosine(served.model.encode_images(pixels), other.model.encode_images(pixels)) < 0.9999


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
def test_a_narrow_type_keeps_the_bound_or_gives_way(dtype: str) -> None:
    capability = {"int8": "INT8", "bfloat16": "BF16"}[dtype]
    if capability not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert dtype in refusal(FOLDER, dtype=dtype)
        return
    kept, exact = load(dtype=dtype, min_dtype_cosine=0.9), load()
    assert (kept.info.dtype, kept.info.refused_dtype) == (dtype, "")
    assert kept.info.fingerprint == exact.info.fingerprint
    refused = load(dtype=dtype, min_dtype_cosine=1)
    assert (refused.info.dtype, refused.info.refused_dtype) == ("float32", dtype)
    assert refused.info.refused_dtype_cosine == pytest.approx(kept.info.dtype_cosine, abs=1e-3)


def cut(folder: Path) -> None:
    content = (folder / VISUAL).read_bytes()
    (folder / VISUAL).write_bytes(content[: len(content) // 2])


def damage(folder: Path) -> None:
    content = bytearray((folder / TEXTUAL).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / TEXTUAL).write_bytes(content)


def swap(folder: Path) -> None:
    (folder / VISUAL).rename(folder / "spare")
    (folder / TEXTUAL).rename(folder / VISUAL)
    (folder / "spare").rename(folder / TEXTUAL)
    change(folder)


def shrink(folder: Path) -> None:
    np.save(folder / PROBE, np.load(folder / PROBE)[:, :64])
    change(folder, dimension=64)


def other_probe(folder: Path) -> None:
    np.save(folder / PROBE, np.flip(np.load(folder / PROBE), axis=0).copy())
    change(folder)


def nan_probe(folder: Path) -> None:
    np.save(folder / PROBE, np.load(folder / PROBE) * np.float32("nan"))
    change(folder)


def pickled_probe(folder: Path) -> None:
    np.save(folder / PROBE, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    change(folder)


def fewer_tokens(folder: Path) -> None:
    content = json.loads((folder / TOKENIZER).read_text())
    content["added_tokens"].append({**content["added_tokens"][0], "id": 49408, "content": "<other>"})
    (folder / TOKENIZER).write_text(json.dumps(content))
    change(folder)


def longer_context(folder: Path) -> None:
    change(folder, tokenizer={"kind": "clip", "cleaning": "lower", "context_length": 60})


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda folder: (folder / VISUAL).unlink(), "visual/model.onnx is missing"),
        (lambda folder: (folder / TEXTUAL).unlink(), "textual/model.onnx is missing"),
        (lambda folder: (folder / TOKENIZER).unlink(), "tokenizer.json cannot be read"),
        (lambda folder: (folder / PROBE).unlink(), "probe.npy cannot be read"),
        (lambda folder: (folder / "cir_model.json").unlink(), "cir_model.json cannot be used"),
        (lambda folder: (folder / "cir_model.json").write_text("{"), "cir_model.json cannot be used"),
        (lambda folder: (folder / "cir_model.json").write_text("[1]"), "cir_model.json cannot be used"),
        (lambda folder: change(folder, format=2), "install a newer one"),
        (lambda folder: change(folder, image_size="112"), "image_size"),
        (lambda folder: change(folder, image_size=224), "expected (batch, 3, 224, 224)"),
        (lambda folder: change(folder, more=1), "more"),
        (lambda folder: change(folder, files={}), "no digest of visual/model.onnx"),
        (cut, "no whole ONNX file"),
        (damage, "not the file that cir_model.json describes"),
        (swap, "expected"),
        (shrink, "expected (2, 64)"),
        (other_probe, "other features here"),
        (nan_probe, "not finite"),
        (pickled_probe, "no features of length 128"),
        (fewer_tokens, "not of one model"),
        (longer_context, "cannot take rows of shape (60,)"),
    ],
)
def test_a_bad_folder_is_refused_in_one_line(
    folder: Path, spoil: Callable[[Path], object], expected: str
) -> None:
    spoil(folder)
    assert expected in refusal(folder)


def test_what_the_folder_decides_cannot_be_set() -> None:
    assert "its own tokenizer" in refusal(FOLDER, quick_gelu=True)
    assert "its own tokenizer" in refusal(FOLDER, tokenizer="roberta-base")


@pytest.mark.slow
def test_the_shipped_model_and_folders_are_run_by_openvino_on_a_cpu(folder: Path) -> None:
    for architecture in ("cir-small", f"local-dir:{FOLDER}", str(FOLDER)):
        settings = EmbedderSettings(architecture=architecture, device="cpu", dtype="float32", threads=1)
        assert load_served(settings).info.runtime == "openvino"
    with pytest.raises(StartupError, match="runs on CPUs"):
        load_served(EmbedderSettings(architecture=str(folder), device="cuda"))
    with pytest.raises(StartupError, match="no folder of ONNX towers"):
        load_served(EmbedderSettings(architecture="ViT-B-32", runtime="openvino"))


@pytest.mark.service
def test_nothing_that_is_loaded_imports_torch() -> None:
    """The service's application included: what follows is what a start and a call need."""
    code = """
import sys
import embedder_service.application
from embedder_service.loading import load_served
from embedder_service.settings import EmbedderSettings
served = load_served(EmbedderSettings(architecture="cir-small", device="cpu"))
served.model.encode_texts(["a red dress"])
heavy = {"torch", "torchvision", "timm", "open_clip", "transformers", "onnx", "rich"} & set(sys.modules)
assert not heavy, heavy
print(served.info.fingerprint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["clip-f8fb93110e2f64a54a654c759877dcfc"]
