"""ONNX exports as others publish them: read as they are, from a folder or a hub, or refused in one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import open_clip
import pytest
import torch
from onnx import numpy_helper

from embedder_service.light.model import load_light
from embedder_service.light.source import TEXTUAL, VISUAL
from embedder_service.loading import SHIPPED, load_served
from embedder_service.probe import PROBE_TEXTS, probe_images
from embedder_service.served import ServedModel
from embedder_service.settings import EmbedderSettings
from service_runtime.errors import StartupError
from tests.embedder_service.hub import Hub
from tests.embedder_service.light.published_export import PIXELS, write_published, write_tower
from tests.embedder_service.model.test_tokenizer import TEXTS, WORDS, save_tokenizer
from tests.embedder_service.small_config import CONFIG

pytestmark = [pytest.mark.torch, pytest.mark.slow]

EXACT: dict[str, Any] = {"device": "cpu", "dtype": "float32", "threads": 1, "device_lanes": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The layout, one tower with its weights in a file of their own, and the module that it was made from."""
    place = tmp_path_factory.mktemp("published")
    return place / "clip", write_published(place / "clip", place, external=True)


@pytest.fixture
def folder(made: tuple[Path, Any], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[0], tmp_path / "model"))


def load(folder: Path, **settings: Any) -> ServedModel:
    return load_served(EmbedderSettings(architecture=str(folder), **(EXACT | settings)))


def images_by_torch(module: Any, pixels: Any) -> Any:
    values = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    with torch.inference_mode():
        return module.encode_image(values).numpy()


def test_features_are_the_raw_ones_of_the_model(made: tuple[Path, Any]) -> None:
    folder, module = made
    served, pixels = load(folder), probe_images(32)
    np.testing.assert_allclose(served.model.encode_images(pixels), images_by_torch(module, pixels), atol=1e-4)
    tokens = open_clip.SimpleTokenizer()([*PROBE_TEXTS, "word " * 100])
    np.testing.assert_array_equal(served.model.tokenize([*PROBE_TEXTS, "word " * 100]), tokens.numpy())
    with torch.inference_mode():
        expected = module.encode_text(tokens).numpy()
    np.testing.assert_allclose(served.model.encode_tokens(tokens.numpy()), expected, atol=1e-4)
    info = served.info
    assert (info.runtime, info.pretrained, info.resize_mode, info.interpolation) == (
        "openvino",
        "onnx",
        "squash",
        "bilinear",
    )
    assert (info.dimension, info.image_size, list(info.std), info.context_length) == (32, 32, [0.25] * 3, 77)


def test_the_identity_is_that_of_weights_pixels_and_words(made: tuple[Path, Any], folder: Path) -> None:
    known = load(made[0]).info.fingerprint
    assert load(folder).info.fingerprint == known
    assert load(folder, dtype="float32", threads=2).info.fingerprint == known
    assert load(folder, mean="0.4").info.fingerprint != known
    (folder / "visual" / "preprocess_cfg.json").write_text(json.dumps(PIXELS | {"resize_mode": "shortest"}))
    assert load(folder).info.fingerprint != known
    (folder / "visual" / "preprocess_cfg.json").write_text(json.dumps(PIXELS))
    weights = folder / "visual" / "model.onnx.data"
    content = bytearray(weights.read_bytes())
    content[5] ^= 1
    weights.write_bytes(content)
    assert load(folder).info.fingerprint != known


@pytest.mark.parametrize(("pad", "strip"), [("<pad>", False), ("</s>", False), ("<pad>", True)])
def test_a_tokenizer_of_hugging_face_gives_the_same_tokens(tmp_path: Path, pad: str, strip: bool) -> None:
    files = save_tokenizer(tmp_path / "words", pad=pad)
    text = CONFIG["text_cfg"] | {
        "context_length": 8,
        "vocab_size": 20,
        "hf_tokenizer_name": "words",
        "pool_type": "last",
        "no_causal_mask": True,
        "tokenizer_kwargs": {"clean": "canonicalize", "strip_sep_token": strip},
    }
    write_published(tmp_path / "model", tmp_path, text_cfg=text, tokenizer=files)
    served = load(tmp_path / "model")
    theirs = open_clip.tokenizer.HFTokenizer(
        str(files), context_length=8, clean="canonicalize", strip_sep_token=strip
    )
    tokens = served.model.tokenize(TEXTS)
    np.testing.assert_array_equal(tokens, theirs(TEXTS).numpy())
    counts = [len(ids) for ids in theirs.tokenizer([theirs.clean_fn(text) for text in TEXTS])["input_ids"]]
    assert served.model.long_texts(TEXTS, tokens) == {
        place: count for place, count in enumerate(counts) if count > 8
    }
    assert served.info.tokenizer == "words"
    known = served.info.fingerprint
    save_tokenizer(tmp_path / "model" / "textual", [*WORDS[::-1]], pad=pad)
    assert load(tmp_path / "model").info.fingerprint != known


def document(name: str, **changes: Any) -> Callable[[Path], None]:
    """Change a JSON file; a value of None leaves the key out."""

    def change(folder: Path) -> None:
        stated = json.loads((folder / name).read_text()) | changes
        (folder / name).write_text(json.dumps({k: v for k, v in stated.items() if v is not None}))

    return change


def text_cfg(**changes: Any) -> Callable[[Path], None]:
    return document("config.json", text_cfg=CONFIG["text_cfg"] | changes)


def pixels(**changes: Any) -> Callable[[Path], None]:
    return document("visual/preprocess_cfg.json", **changes)


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut(folder: Path) -> None:
    content = (folder / TEXTUAL).read_bytes()
    (folder / TEXTUAL).write_bytes(content[: len(content) // 2])


def edited(name: str, edit: Callable[[Any], object]) -> Callable[[Path], None]:
    """Change an ONNX file."""

    def change(folder: Path) -> None:
        model = onnx.load(folder / name)
        edit(model)
        onnx.save(model, folder / name)

    return change


def two_rows(folder: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 32))
    write_tower(module, torch.randn(2, 3, 32, 32), folder / VISUAL, name="image")


def not_finite(model: Any) -> None:
    [tensor] = [each for each in model.graph.initializer if each.name.endswith("visual.proj")]
    values = numpy_helper.to_array(tensor) * np.float32("nan")
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def swap(folder: Path) -> None:
    shutil.copy(folder / VISUAL, folder / TEXTUAL)
    shutil.copy(folder / "visual" / "model.onnx.data", folder / "textual" / "model.onnx.data")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (without(VISUAL), "visual/model.onnx is missing"),
        (without(TEXTUAL), "textual/model.onnx is missing"),
        (without("visual/model.onnx.data"), "'model.onnx.data', which is missing"),
        (without("visual/preprocess_cfg.json"), "preprocess_cfg.json cannot be used: No such file"),
        (without("textual/tokenizer.json"), "tokenizer.json cannot be read as a tokenizer"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json cannot be used"),
        (lambda folder: (folder / "config.json").write_text("[1]"), "it is no object"),
        (document("config.json", embed_dim=None), "needs embed_dim and text_cfg"),
        (document("config.json", embed_dim=16), "expected (1, 16), as the other tower"),
        (document("config.json", text_cfg=7), "needs embed_dim and text_cfg"),
        (text_cfg(context_length=100), "textual/model.onnx cannot take rows of shape (100,)"),
        (text_cfg(context_length="many"), "context_length is 'many'"),
        (text_cfg(tokenizer_kwargs={"clean": "spotless"}), "text cleaning 'spotless' is not known"),
        (text_cfg(tokenizer_kwargs={"language": "deu_Latn"}), "option language, which only torch knows"),
        (text_cfg(tokenizer_kwargs=[1]), "tokenizer_kwargs must be an object"),
        (text_cfg(hf_tokenizer_name="other"), "tokenizer_config.json cannot be used: No such file"),
        (pixels(mean=[0.5, 0.5]), "mean is [0.5, 0.5]; expected one number or three"),
        (pixels(resize_mode="crop"), "resize_mode is 'crop'"),
        (pixels(mode="L"), "only RGB is served"),
        (pixels(size=[32, 64]), "size is [32, 64]"),
        (pixels(size=64), "expected (batch, 3, 64, 64)"),
        (cut, "no whole ONNX file"),
        (swap, "expected (batch, tokens)"),
        (two_rows, "exported for a fixed batch"),
        (edited(VISUAL, not_finite), "not finite"),
        (edited(VISUAL, lambda model: setattr(model.opset_import[0], "version", 99)), "opset 99"),
        (
            edited(TEXTUAL, lambda model: setattr(model.graph.node[0], "domain", "evil")),
            "whose code is never",
        ),
    ],
)
def test_a_bad_export_is_refused_in_one_line(
    folder: Path, spoil: Callable[[Path], object], expected: str
) -> None:
    spoil(folder)
    with pytest.raises(StartupError) as caught:
        load_light(EmbedderSettings(architecture=str(folder), **EXACT), folder)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_more_tokens_than_the_tower_knows_is_refused(folder: Path, tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(50_000)]
    save_tokenizer(folder / "textual", words)
    text_cfg(hf_tokenizer_name="words")(folder)
    with pytest.raises(StartupError, match=r"knows 49408 tokens, and the tokenizer has 50005: .*not of one"):
        load(folder)


def test_torch_does_not_run_it(folder: Path) -> None:
    with pytest.raises(StartupError, match="which runtime torch does not run; use runtime auto"):
        load(folder, runtime="torch")
    with pytest.raises(StartupError, match="runs on CPUs, and device is cuda"):
        load(folder, device="cuda")


CHILD = """
import sys
from embedder_service.loading import SHIPPED, load_served
from embedder_service.settings import EmbedderSettings
from service_runtime.errors import StartupError
try:
    served = load_served(EmbedderSettings.load(sys.argv[1:]))
except StartupError as error:
    sys.exit(str(error))
heavy = {"torch", "torchvision", "timm", "open_clip", "transformers", "onnx"} & set(sys.modules)
assert not heavy, heavy
print(served.info.architecture, served.info.fingerprint)
"""


def start(hub: str, cache: Path, repository: str, *options: str, offline: bool = False) -> tuple[int, str]:
    """Load a model by its name on a hub, in a process of its own; return exit code and answer."""
    arguments = ["--architecture", f"hf-hub:{repository}", "--weights-cache", str(cache), "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments, "--dtype", "float32", *options],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "HF_ENDPOINT": hub,
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HOME": str(cache),
            "HF_HUB_OFFLINE": str(int(offline)),
        },
        timeout=120,
    )
    return done.returncode, (done.stdout or done.stderr).strip()


@pytest.mark.service
def test_a_model_is_had_by_its_name_on_a_hub(folder: Path, tmp_path: Path) -> None:
    known = load(folder).info.fingerprint
    (folder / "visual" / "model.rknn").touch()
    with Hub({"shop/clip": folder, "ours/clip": SHIPPED / "cir-small"}) as hub:
        assert start(hub.url, tmp_path / "cache", "shop/clip") == (0, f"hf-hub:shop/clip {known}")
        assert not any("rknn" in path for path in hub.asked)
        code, said = start(hub.url, tmp_path / "cache", "ours/clip")
        assert (code, said.split()[0]) == (0, "cir-small"), said
    # Downloaded once, it needs no hub.
    assert start(hub.url, tmp_path / "cache", "shop/clip", offline=True) == (0, f"hf-hub:shop/clip {known}")
    code, said = start(hub.url, tmp_path / "empty", "shop/clip", "--runtime", "openvino", offline=True)
    assert code == 1
    assert "hf-hub:shop/clip cannot be downloaded" in said
    assert "local-dir:PATH" in said
    assert len(said.splitlines()) == 1


@pytest.mark.service
def test_a_repository_that_holds_no_export_is_told(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "README.md").write_text("nothing")
    with Hub({"shop/other": tmp_path / "other"}) as hub:
        code, said = start(hub.url, tmp_path / "cache", "shop/other", "--runtime", "openvino")
        assert code == 1
        assert "hf-hub:shop/other is no folder of ONNX towers" in said
        code, said = start(hub.url, tmp_path / "cache", "shop/unknown", "--runtime", "openvino")
        assert code == 1
        assert "hf-hub:shop/unknown cannot be downloaded" in said
        assert len(said.splitlines()) == 1
