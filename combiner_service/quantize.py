"""Weights of a network in fewer bits, and what that costs: measured on a probe, never assumed.

Half or a quarter of the memory, and with it of the time of a small batch. Inputs, outputs and biases of the
layers stay float32, so that everything around them is as it was.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from combiner_service.network import CombinerNetwork
from combiner_service.network_spec import WeightType

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
        """Return true if the int8 product is made for the layer's sizes; on others it reads out of bounds."""
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


_PROBE_ROWS = 96


def quantize(network: CombinerNetwork, weight_type: WeightType) -> CombinerNetwork:
    """A copy of the network that holds its large weights in `weight_type`.

    The last layer of lambda and the mix of v, text and image stay float32, and so do layers of sizes that
    int8 does not take (no published network has one).
    """
    # Shallow: the tensors are shared until a layer is replaced, so that two copies are never held.
    result = copy.copy(network)
    result._modules = dict(network._modules)
    for name in ("text_projection_layer", "image_projection_layer", "combiner_layer", "output_layer"):
        layer = getattr(network, name)
        assert isinstance(layer, nn.Linear)  # noqa: S101  # the network's own layers
        result._modules[name] = _narrow(layer, weight_type)
    first, *rest = network.dynamic_scalar
    assert isinstance(first, nn.Linear)  # noqa: S101
    result._modules["dynamic_scalar"] = nn.Sequential(_narrow(first, weight_type), *rest)
    return result.eval()


def _narrow(layer: nn.Linear, weight_type: WeightType) -> nn.Module:
    if weight_type is WeightType.BFLOAT16:
        return Bfloat16Linear(layer)
    return Int8Linear(layer) if Int8Linear.takes(layer) else layer


def smallest_cosine(exact: CombinerNetwork, other: CombinerNetwork) -> float:
    """The smallest cosine between the query vectors of two networks for seeded raw features.

    Rows of about the length that CLIP's features have (10); one alone, three together, the rest at once,
    for small and large batches take different ways.
    """
    dimension = exact.sizes.feature_dim
    device = exact.output_layer.bias.device
    generator = torch.Generator().manual_seed(20220619)
    rows = torch.randn((2, _PROBE_ROWS, dimension), generator=generator) * (10 / dimension**0.5)
    image, text = rows.to(device)
    with torch.inference_mode():
        wanted, _ = exact(image, text)
        parts = (slice(0, 1), slice(1, 4), slice(4, _PROBE_ROWS))
        got = torch.cat([other(image[part], text[part])[0] for part in parts])
        return float(functional.cosine_similarity(wanted.double(), got.double()).min())
