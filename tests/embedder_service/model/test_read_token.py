"""The last block for the class token alone: the same features, and the whole block where more is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from embedder_service.model.export import export
from embedder_service.model.read_token import encode_image, reads_class_token
from embedder_service.settings import EmbedderSettings
from service_runtime.openvino_core import core
from tests.embedder_service.small_config import CONFIG, write_config
from tests.embedder_service.small_model import load_small

pytestmark = [pytest.mark.torch, pytest.mark.slow]

VISION: dict[str, Any] = CONFIG["vision_cfg"]


@pytest.mark.parametrize(
    ("changes", "is_shortened"),
    [
        ({}, True),
        ({"no_ln_pre": True}, True),
        ({"final_ln_after_pool": True}, True),
        ({"ls_init_value": 0.1}, True),
        ({"layers": 1}, True),
        ({"pos_embed_type": "sin_cos_2d"}, True),
        ({"pool_type": "avg"}, False),
        ({"attentional_pool": True}, False),
        ({"qk_norm": True}, False),
        ({"layers": [1, 1, 1, 1], "patch_size": None}, False),
    ],
)
def test_features_are_those_of_the_whole_tower(
    tmp_path: Path, changes: dict[str, Any], is_shortened: bool
) -> None:
    module: Any = load_small(tmp_path, vision_cfg=VISION | changes).module
    assert reads_class_token(module) == is_shortened
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    ran = []
    if is_shortened:
        module.visual.transformer.resblocks[-1].mlp.register_forward_hook(
            lambda _, given, __: ran.append(given[0].shape[1])
        )
    with torch.inference_mode():
        expected, got = module.encode_image(pixels), encode_image(module, pixels)
    assert torch.allclose(got, expected, atol=1e-6)
    # All tokens of the whole tower, and one of the other.
    assert ran == ([17, 1] if is_shortened else [])


def test_an_exported_tower_does_no_more_in_its_last_block(tmp_path: Path) -> None:
    settings = EmbedderSettings(
        architecture="small", pretrained="random:7", model_config_file=write_config(tmp_path), device="cpu"
    )
    made = export(settings, tmp_path / "model").folder
    tower = core.read_model(made / "visual" / "model.onnx")
    tower.reshape([2, 3, 32, 32])
    width = VISION["width"]
    products = [node for node in tower.get_ordered_ops() if node.get_type_name() == "MatMul"]
    widened = [list(node.output(0).shape) for node in products if node.output(0).shape[-1] == 4 * width]
    assert widened == [[2, 17, 4 * width], [2, 1, 4 * width]]
