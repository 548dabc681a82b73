"""Linear layers whose weights take half or a quarter of the memory, and with it of the time of a small batch.

Inputs, outputs and biases stay float32, so that everything around these layers is as it was.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# From this many rows on the weights are widened once, and a product in float32 is faster.
_WIDEN_FROM_ROWS = 64
# A multiple of every vector length that the product in int8 works with, on any processor.
_BLOCK = 64


class Bfloat16Linear(nn.Module):
    """y = x W^T + b with W and x rounded to bfloat16 for the product."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = linear.weight.detach().to(torch.bfloat16)
        self.bias = linear.bias.detach()

    def forward(self, features: Tensor) -> Tensor:
        """(n, in) float32 -> (n, out) float32."""
        return functional.linear(features.to(torch.bfloat16), self.weight).float() + self.bias


class Int8Linear(nn.Module):
    """y = x W^T + b, each row of W as whole numbers from -127 to 127 times a scale of its own. CPU alone."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        if not self.takes(linear):
            raise ValueError(
                f"a layer of {linear.in_features} x {linear.out_features} values does not fit int8 blocks "
                f"of {_BLOCK}; keep it in float32"
            )
        weight = linear.weight.detach().float()
        # The product takes scales in bfloat16. They are rounded before the weights are, which then make up
        # for it; half a step more room keeps the largest weight within 127.
        scale = (weight.abs().amax(dim=1).clamp(min=1e-30) / 126.5).to(torch.bfloat16)
        self.scale = scale
        self.weight = (weight / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
        self.bias = linear.bias.detach()

    @staticmethod
    def takes(linear: nn.Linear) -> bool:
        """Whether the product in int8 is made for the layer's sizes; on others it reads out of bounds."""
        return linear.in_features % _BLOCK == 0 and linear.out_features % _BLOCK == 0

    def forward(self, features: Tensor) -> Tensor:
        """(n, in) float32 -> (n, out) float32."""
        if len(features) >= _WIDEN_FROM_ROWS:
            product = functional.linear(features, self.weight.float()) * self.scale.float()
        else:
            # Not public, but torch's own for weights of one byte; the tests of this module compare it with
            # the product in float32.
            rounded = features.to(torch.bfloat16)
            product = torch.ops.aten._weight_int8pack_mm(rounded, self.weight, self.scale).float()
        return product + self.bias
