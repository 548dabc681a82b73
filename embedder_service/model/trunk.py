"""A pretrained trunk next to an image tower: EfficientNet-Lite0, and a head that joins the features of both.

`vision_cfg` of an architecture says `"trunk": {"name": "efficientnet-lite0", "hidden": 256}`. The layout is
that of the published network up to its last block, at any image size; batch normalisation is part of the
convolutions' weights, and a padding that does not divide evenly has its larger part behind, as in TensorFlow.
What an image is called is easier to tell from several depths at once: features are the means of four stages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

NAME = "efficientnet-lite0"
#: Pixels, from 0 to 1, that the trunk was trained with.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_STEM = 32
# Kernel, stride of the first block, expansion, channels and number of blocks.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
# Stages whose means over the image are its features.
_SEEN = _STAGES[3:]
#: Values of an image's features in the trunk.
WIDTH = sum(channels for _, _, _, channels, _ in _SEEN)


class Convolution(nn.Conv2d):
    """A convolution that keeps the size of its input, divided by the stride and rounded up.

    With `is_bounded` its values are cut to 0 to 6.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, is_bounded: bool
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, groups=groups)
        self._is_bounded = is_bounded

    def forward(self, input: Tensor) -> Tensor:
        """Return float (n, outputs, height, width)."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        missing = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in input.shape[2:]]
        if any(missing):
            above, left = (part // 2 for part in missing)
            input = functional.pad(input, (left, missing[1] - left, above, missing[0] - above))
        values = super().forward(input)
        return values.clamp(0, 6) if self._is_bounded else values


class Block(nn.Module):
    """An inverted residual: widened, convolved channel by channel, narrowed, and added to where it fits."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = Convolution(inputs, wide, 1, is_bounded=True) if expansion > 1 else nn.Identity()
        self.depthwise = Convolution(wide, wide, kernel, stride=stride, groups=wide, is_bounded=True)
        self.project = Convolution(wide, outputs, 1, is_bounded=False)
        self._is_residual = stride == 1 and inputs == outputs

    def forward(self, values: Tensor) -> Tensor:
        """Return float (n, outputs, height, width)."""
        narrowed: Tensor = self.project(self.depthwise(self.expand(values)))
        return values + narrowed if self._is_residual else narrowed


class EfficientNetLite0(nn.Module):
    """Pixels to the means over the image of what its later stages, of 80 channels and more, come to."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, _STEM, 3, stride=2, is_bounded=True)
        blocks, inputs = [], _STEM
        self._seen = set()
        for stage in _STAGES:
            kernel, stride, expansion, outputs, count = stage
            for place in range(count):
                blocks.append(Block(inputs, outputs, kernel, stride if place == 0 else 1, expansion))
                inputs = outputs
            if stage in _SEEN:
                self._seen.add(len(blocks) - 1)
        self.blocks = nn.Sequential(*blocks)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return float (n, WIDTH) of pixels that `MEAN` and `STD` normalise."""
        values: Tensor = self.stem(pixels)
        means = []
        for place, block in enumerate(self.blocks):
            values = block(values)
            if place in self._seen:
                means.append(functional.adaptive_avg_pool2d(values, 1).flatten(1))
        return torch.cat(means, dim=1)


class JoinedTower(nn.Module):
    """An image tower whose features a head corrects by what the trunk sees.

    It takes the tower's own pixels; `scale` and `shift` make the trunk's of them.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, tower: Any, dimension: int, hidden: int) -> None:
        super().__init__()
        self.image_size = tower.image_size
        self.tower = tower
        self.trunk = EfficientNetLite0()
        self.register_buffer("scale", torch.ones(3))
        self.register_buffer("shift", torch.zeros(3))
        self.hidden = nn.Linear(dimension + WIDTH, hidden)
        self.correction = nn.Linear(hidden, dimension)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return raw features (n, dimension)."""
        features: Tensor = self.tower(pixels)
        scale, shift = (part.view(1, 3, 1, 1) for part in (self.scale, self.shift))
        seen = torch.cat([features, self.trunk(pixels * scale + shift)], dim=1)
        further: Tensor = features + self.correction(functional.gelu(self.hidden(seen)))
        return further


def join_trunk(tower: nn.Module, dimension: int, trunk: Mapping[str, Any]) -> JoinedTower:
    """Return an image tower with the trunk that an architecture asks for.

    Raises:
        ValueError: it is no trunk that is known; the message says what is.
    """
    if not isinstance(trunk, Mapping) or set(trunk) != {"name", "hidden"} or trunk["name"] != NAME:
        raise ValueError(f'trunk is {trunk!r}; expected {{"name": "{NAME}", "hidden": NUMBER}}')
    return JoinedTower(tower, dimension, int(trunk["hidden"]))
