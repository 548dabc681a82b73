"""Folders and repositories of Hugging Face's CLIPModel, against transformers itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from embedder_service.images.preprocess import Interpolation, ResizeMode
from embedder_service.model.load import load
from embedder_service.settings import EmbedderSettings
from service_runtime.errors import StartupError
from tests.embedder_service.model.test_sources import cached

pytestmark = pytest.mark.torch

PIXELS: dict[str, Any] = {
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.3, 0.4],
    "resample": 3,
    "size": {"shortest_edge": 32},
    "crop_size": {"height": 32, "width": 32},
    "do_center_crop": True,
}


def make_model(activation: str = "quick_gelu", eps: float = 1e-5) -> Any:
    """A small CLIPModel with weights of its own, in evaluation mode."""
    both = {"num_hidden_layers": 2, "hidden_act": activation, "layer_norm_eps": eps, "num_attention_heads": 2}
    config: Any = CLIPConfig(
        text_config=both
        | {"hidden_size": 32, "intermediate_size": 64, "eos_token_id": 49407, "bos_token_id": 49406},
        vision_config=both | {"hidden_size": 64, "intermediate_size": 256, "image_size": 32, "patch_size": 8},
        projection_dim=48,
    )
    torch.manual_seed(5)
    model: Any = CLIPModel(config)
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.02)
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "fashion"
    make_model().save_pretrained(place)
    (place / "preprocessor_config.json").write_text(json.dumps(PIXELS))
    return place


def settings_of(architecture: str, **changes: Any) -> EmbedderSettings:
    return EmbedderSettings(architecture=architecture, device="cpu", dtype="float32", **changes)


@pytest.mark.parametrize(("activation", "eps"), [("quick_gelu", 1e-5), ("gelu", 1e-5), ("quick_gelu", 1e-3)])
def test_features_are_those_of_transformers(tmp_path: Path, activation: str, eps: float) -> None:
    model = make_model(activation, eps)
    model.save_pretrained(tmp_path / "fashion")
    (tmp_path / "fashion" / "preprocessor_config.json").write_text(json.dumps(PIXELS))
    served = load(settings_of(f"local-dir:{tmp_path / 'fashion'}"))
    assert served.info.activation == activation
    pixels = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), np.uint8)
    tokens = served.model.tokenize(["a red dress", "", "word " * 100])
    mean, std = (torch.tensor(PIXELS[name]).view(3, 1, 1) for name in ("image_mean", "image_std"))
    with torch.no_grad():
        values = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
        images = model.visual_projection(model.vision_model(pixel_values=values).pooler_output)
        texts = model.text_projection(model.text_model(input_ids=torch.from_numpy(tokens)).pooler_output)
    np.testing.assert_allclose(served.model.encode_images(pixels), images.numpy(), atol=1e-4)
    np.testing.assert_allclose(served.model.encode_tokens(tokens), texts.numpy(), atol=1e-4)


def test_a_repository_is_the_same_model_as_its_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    cached(tmp_path / "cache", "ORG/fashion-clip", folder)
    by_folder = load(settings_of(f"local-dir:{folder}")).info
    by_hub = load(settings_of("hf-hub:ORG/fashion-clip", weights_cache=tmp_path / "cache")).info
    assert by_hub.fingerprint == by_folder.fingerprint
    assert by_hub.architecture == "hf-hub:ORG/fashion-clip"
    np.testing.assert_allclose(list(by_hub.mean), PIXELS["image_mean"])


@pytest.mark.parametrize(
    ("changes", "mode", "interpolation"),
    [
        ({}, ResizeMode.SHORTEST, Interpolation.BICUBIC),
        ({"resample": 2, "size": 32}, ResizeMode.SHORTEST, Interpolation.BILINEAR),
        (
            {"do_center_crop": False, "size": {"height": 32, "width": 32}},
            ResizeMode.SQUASH,
            Interpolation.BICUBIC,
        ),
    ],
)
def test_the_resizing_is_that_of_the_processor(
    folder: Path, changes: dict[str, Any], mode: ResizeMode, interpolation: Interpolation
) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(PIXELS | changes))
    preprocessor = load(settings_of(f"local-dir:{folder}")).preprocessor
    assert (preprocessor.resize_mode, preprocessor.interpolation) == (mode, interpolation)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("config.json", {"model_type": "siglip"}, "of type 'siglip'; .*only 'clip' is read"),
        ("config.json", {"text_config": {"vocab_size": 32000}}, "only CLIP's own tokenizer"),
        ("config.json", {"text_config": {"hidden_act": "gelu"}}, "hidden_act is 'gelu', 'quick_gelu'"),
        ("config.json", {"vision_config": {"hidden_size": "wide"}}, "cannot be used"),
        ("config.json", {"vision_config": {"num_attention_heads": 0}}, "cannot be used"),
        ("preprocessor_config.json", {"image_mean": None}, "image_mean and image_std are missing"),
        ("preprocessor_config.json", {"image_std": [1, 2]}, "std is"),
        ("preprocessor_config.json", {"resample": 1}, "resample is 1"),
        ("preprocessor_config.json", {"do_center_crop": False}, "do_center_crop is off"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(
    folder: Path, file: str, changes: dict[str, Any], message: str
) -> None:
    document = json.loads((folder / file).read_text())
    for key, value in changes.items():
        document[key] = document[key] | value if isinstance(value, dict) else value
    (folder / file).write_text(json.dumps(document))
    with pytest.raises(StartupError, match=message) as caught:
        load(settings_of(f"local-dir:{folder}"))
    assert "\n" not in str(caught.value)


def test_a_processor_that_is_missing_is_told(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(StartupError, match=r"preprocessor_config\.json cannot be used: .*No such file"):
        load(settings_of(f"local-dir:{folder}"))
