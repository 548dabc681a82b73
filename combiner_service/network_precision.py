"""The weights of a network in fewer bits, and what that costs: measured on a probe, never assumed."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional

from combiner_service.network import CombinerNetwork
from combiner_service.reduced_linear import Bfloat16Linear, Int8Linear
from combiner_service.weight_type import WeightType

_PROBE_ROWS = 96


def reduced(network: CombinerNetwork, weight_type: WeightType) -> CombinerNetwork:
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
