"""Model folders of open_clip's models: the same features, the same identity, by another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from embedder_service.light.model import load_light
from embedder_service.loading import SHIPPED, load_served
from embedder_service.model.export import export
from embedder_service.model.load import load
from embedder_service.probe import PROBE_TEXTS, Int8Layers, probe_features
from embedder_service.settings import EmbedderSettings
from service_runtime.errors import StartupError
from service_runtime.openvino_core import core
from tests.embedder_service.small_config import CONFIG, write_config
from tests.embedder_service.small_model import load_small, save

pytestmark = [pytest.mark.torch, pytest.mark.slow]

EXACT: dict[str, Any] = {"device": "cpu", "dtype": "float32", "threads": 1}


def small(folder: Path, pretrained: str = "random:7", **changes: Any) -> EmbedderSettings:
    """Return settings of the small model of the tests."""
    return EmbedderSettings(
        architecture="small",
        pretrained=pretrained,
        model_config_file=write_config(folder, **changes),
        **EXACT,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("export")
    return export(small(place), place / "model").folder


def test_features_and_identity_are_those_of_torch(folder: Path, tmp_path: Path) -> None:
    theirs = load(small(tmp_path))
    ours = load_light(EmbedderSettings(architecture=f"local-dir:{folder}", **EXACT), folder)
    assert ours.info.fingerprint == theirs.info.fingerprint
    assert np.abs(probe_features(ours.model) - probe_features(theirs.model)).max() < 1e-4
    texts = [*PROBE_TEXTS, "word " * 100, "a"]
    assert np.array_equal(ours.model.tokenize(texts), theirs.model.tokenize(texts))
    assert np.abs(ours.model.encode_texts(texts) - theirs.model.encode_texts(texts)).max() < 1e-4
    same = {field.name: getattr(theirs.info, field.name) for field in theirs.info.DESCRIPTOR.fields}
    same |= {"runtime": "openvino", "dtype_cosine": pytest.approx(1, abs=1e-5)}
    assert {field.name: getattr(ours.info, field.name) for field in ours.info.DESCRIPTOR.fields} == same


def test_the_shipped_folder_is_the_shipped_checkpoint() -> None:
    settings = EmbedderSettings(architecture="cir-small", pretrained="shipped", **EXACT)
    theirs, ours = load(settings), load_served(settings)
    assert ours.info.runtime == "openvino"
    assert ours.info.fingerprint == theirs.info.fingerprint
    assert np.abs(probe_features(ours.model) - probe_features(theirs.model)).max() < 1e-4
    towers = [SHIPPED / "cir-small" / name / "model.onnx" for name in ("visual", "textual")]
    assert sum(path.stat().st_size for path in towers) < 20.2e6


# The width of ViT-B/32; its depth would cost a minute, and repeat the same.
WIDE: dict[str, Any] = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 768, "head_width": 64, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 2},
}
#: How many times larger than the rest a few channels of the activations are, as in trained CLIPs.
OUTLIERS = {3: 60.0, 100: 20.0, 257: 35.0, 500: 50.0}


def outlying(folder: Path, *, is_loud: bool) -> Path:
    """Write weights with which a few channels of what the linear layers of each block read are far larger.

    Where they are not loud, the layers weigh these channels as much less: features are then those of weights
    without outliers, and all that int8 loses is what the outliers make it lose.
    """
    state = load_small(folder, **WIDE).module.state_dict()
    with torch.no_grad():
        for tower in ("visual.", ""):
            for block in range(2):
                name = f"{tower}transformer.resblocks.{block}"
                for norm, layer in (("ln_1", "attn.in_proj_weight"), ("ln_2", "mlp.c_fc.weight")):
                    for channel, factor in OUTLIERS.items():
                        state[f"{name}.{norm}.weight"][channel] *= factor
                        if not is_loud:
                            state[f"{name}.{layer}"][:, channel] /= factor
    return save(state, folder / "outlying.safetensors")


@pytest.mark.parametrize("is_loud", [True, False])
def test_int8_keeps_the_bound_or_gives_way_where_channels_are_outlying(tmp_path: Path, is_loud: bool) -> None:
    if "INT8" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no int8 products")
    weights = str(outlying(tmp_path, is_loud=is_loud))
    made = export(small(tmp_path, weights, **WIDE), tmp_path / "model").folder
    expected = np.load(made / "probe.npy")
    settings = EmbedderSettings(architecture=f"local-dir:{made}", **(EXACT | {"dtype": "int8"}))
    served = load_light(settings, made)
    got = probe_features(served.model)
    norms = np.linalg.norm(got, axis=1) * np.linalg.norm(expected, axis=1)
    assert ((got * expected).sum(axis=1) / norms).min() >= 0.999
    assert (served.info.dtype == "int8") != (served.info.refused_dtype == "int8")
    if not is_loud:
        assert served.info.dtype == "int8"
        assert served.info.int8_layers == Int8Layers.ALL


def test_what_a_folder_cannot_hold_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="name a new folder"):
        export(small(tmp_path), folder)
    text = dict(CONFIG["text_cfg"])
    for options in ({"additional_special_tokens": ["<x>"]}, {"strip_sep_token": True}):
        with pytest.raises(StartupError, match="tokenizer_kwargs"):
            export(small(tmp_path, text_cfg=text | {"tokenizer_kwargs": options}), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_model_that_was_trained_with_other_pixels_keeps_them(tmp_path: Path) -> None:
    settings = small(tmp_path).model_copy(update={"mean": "0.5", "std": "0.25", "resize_mode": "squash"})
    made = export(settings, tmp_path / "model").folder
    ours = load_light(EmbedderSettings(architecture=f"local-dir:{made}", **EXACT), made)
    assert ours.info.fingerprint == load(settings).info.fingerprint
    assert (ours.info.resize_mode, list(ours.info.std)) == ("squash", [0.25] * 3)
