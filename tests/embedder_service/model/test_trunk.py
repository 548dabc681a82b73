"""The second trunk of an image tower: padding, places of weights, and what an architecture may ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from embedder_service.model.trunk import WIDTH, Convolution, EfficientNetLite0, join_trunk
from embedder_service.model.weights import load_model
from service_runtime.errors import StartupError
from tests.embedder_service.small_config import CONFIG, write_config

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(("size", "kernel", "above", "below"), [(8, 3, 0, 1), (8, 5, 1, 2), (7, 5, 2, 2)])
def test_the_larger_part_of_the_padding_is_behind(size: int, kernel: int, above: int, below: int) -> None:
    torch.manual_seed(0)
    layer = Convolution(2, 3, kernel, stride=2, is_bounded=False)
    values = torch.randn(1, 2, size, size)
    padded = functional.pad(values, (above, below, above, below))
    expected = functional.conv2d(padded, layer.weight, layer.bias, stride=2)
    assert expected.shape[2:] == (-(-size // 2),) * 2
    assert torch.equal(layer(values), expected)


def test_values_are_cut_where_the_published_network_cuts_them() -> None:
    layer = Convolution(1, 1, 1, is_bounded=True)
    torch.nn.init.ones_(layer.weight)
    assert layer.bias is not None
    torch.nn.init.zeros_(layer.bias)
    values = torch.tensor([-1.0, 3.0, 9.0]).view(1, 1, 1, 3)
    assert layer(values).flatten().tolist() == [0, 3, 6]


def test_the_trunk_has_the_published_layout_up_to_its_last_block() -> None:
    trunk = EfficientNetLite0().eval()
    assert len(trunk.blocks) == 16
    assert sum(parameter.numel() for parameter in trunk.parameters()) == 2_939_120


def test_features_are_the_means_of_four_stages() -> None:
    torch.manual_seed(0)
    trunk = EfficientNetLite0().eval()
    pixels = torch.randn(2, 3, 40, 40)
    with torch.inference_mode():
        features = trunk(pixels)
        after = [trunk.blocks[:count](trunk.stem(pixels)) for count in (8, 11, 15, 16)]
    assert [values.shape[1] for values in after] == [80, 112, 192, 320]
    assert features.shape == (2, WIDTH)
    means = torch.cat([values.mean(dim=(2, 3)) for values in after], dim=1)
    assert torch.allclose(features, means, atol=1e-6)


def test_without_a_correction_the_features_are_the_towers() -> None:
    class Tower(torch.nn.Module):
        image_size = 32

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.mean(dim=(2, 3))

    joined = join_trunk(Tower(), 3, {"name": "efficientnet-lite0", "hidden": 8}).eval()
    pixels = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert not torch.equal(joined(pixels), pixels.mean(dim=(2, 3)))
        torch.nn.init.zeros_(joined.correction.weight)
        torch.nn.init.zeros_(joined.correction.bias)
        assert torch.equal(joined(pixels), pixels.mean(dim=(2, 3)))


@pytest.mark.parametrize("trunk", ["resnet", {"name": "resnet", "hidden": 8}, {"name": "efficientnet-lite0"}])
def test_another_trunk_is_refused_in_one_line(tmp_path: Path, trunk: Any) -> None:
    vision = CONFIG["vision_cfg"] | {"trunk": trunk}
    with pytest.raises(StartupError, match=r"trunk is .*efficientnet-lite0") as caught:
        load_model("small", "random:1", config_file=write_config(tmp_path, vision_cfg=vision))
    assert "\n" not in str(caught.value)
