"""CLIP's transformer blocks with 8-bit weights, for CPUs: torch's own quantised matrix products.

Weights are quantised once, symmetric, with a scale for each output channel. Inputs are quantised in each
forward pass with a scale and an offset for each token, so that an image's features do not depend on the
rest of its batch: with one scale for the whole input, as dynamic quantisation usually has it, they would.

The linear layers of the blocks (attention projections and MLPs) are quantised, nearly all of the work of a
ViT. `Int8Layers` selects some of them: text features tolerate less of it than image features. Convolutions,
normalisation, softmax, embeddings and the last projection stay in float32, and with them all of a ResNet's
image tower.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from open_clip.transformer import ResidualAttentionBlock

from embedder_service.probe import Int8Layers
from service_runtime.errors import StartupError

# Without it the kernels add pairs of 8-bit products in 16 bits; 7-bit inputs never overflow these.
_FULL_RANGE_FLAG = "avx512_vnni"


def quantize(
    module: torch.nn.Module, cpu_flags: frozenset[str], layers: Int8Layers = Int8Layers.ALL
) -> torch.nn.Module:
    """Return a copy of a float32 open_clip model on the CPU that computes these layers in int8.

    Raises:
        StartupError: torch has no such kernels, or the model no such blocks.
    """
    levels = input_levels(cpu_flags)
    result = copy.deepcopy(module)
    blocks: dict[str, Any] = {
        name: part for name, part in result.named_modules() if isinstance(part, ResidualAttentionBlock)
    }
    if not blocks:
        raise StartupError("dtype int8 needs transformer blocks of open_clip, and this model has none")
    try:
        for name, block in blocks.items():
            on_image = name.startswith("visual.")
            if layers is Int8Layers.ALL or (on_image and layers is Int8Layers.IMAGE_AND_TEXT_MLPS):
                block.attn = _Attention(block.attn, levels)
            for part in ("c_fc", "c_proj"):
                linear = getattr(block.mlp, part)
                setattr(block.mlp, part, Int8Linear(linear.weight, linear.bias, levels))
        with torch.inference_mode():
            # Packing succeeds where multiplying does not.
            Int8Linear(torch.eye(8), torch.zeros(8), levels)(torch.zeros(1, 8))
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        raise StartupError(
            f"this build of torch has no int8 kernels for this CPU ({str(error).splitlines()[0][:200]}); "
            "use dtype auto"
        ) from error
    return result


def input_levels(cpu_flags: frozenset[str]) -> int:
    """Return the number of steps of inputs on each side of zero for which no sum overflows on this CPU."""
    return 127 if _FULL_RANGE_FLAG in cpu_flags else 63


class Int8Linear(torch.nn.Module):
    """y = x W^T + b with W in int8 and x quantised token by token; float32 in and out."""

    # open_clip reads this from a layer that is not plain float: the type of its activations.
    int8_original_dtype = torch.float32

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, levels: int) -> None:
        super().__init__()
        weight = weight.detach()
        scales = weight.abs().amax(dim=1).div(127).clamp_min(1e-12).to(torch.float64)
        zeros = torch.zeros(len(scales), dtype=torch.int64)
        with warnings.catch_warnings():
            # torch warns that its quantised tensor types will go; `quantize` reports it when they have.
            warnings.simplefilter("ignore")
            quantised = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
            self._packed: Any = torch.ops.quantized.linear_prepack(quantised, None)
        self._levels = levels
        # The exact contribution of a token's offset to each output.
        self._row_sums = weight.sum(dim=1)
        self._bias = bias.detach().clone()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return float32 (..., out) of float32 (..., in)."""
        lowest, highest = torch.aminmax(values, dim=-1, keepdim=True)
        middle = (highest + lowest) * 0.5
        reach = ((highest - lowest) * 0.5).clamp_min(1e-12)
        # Every token now fills -1 to 1, so one fixed scale fits them all.
        result: torch.Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            (values - middle).div_(reach), 1 / self._levels, self._levels + 1, self._packed
        )
        return result.mul_(reach).add_(torch.addcmul(self._bias, middle, self._row_sums))


class _Attention(torch.nn.Module):
    """Self-attention as torch.nn.MultiheadAttention computes it, its projections in int8."""

    def __init__(self, attention: torch.nn.MultiheadAttention, levels: int) -> None:
        super().__init__()
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        if weight is None or bias is None or not attention.batch_first:
            raise StartupError("dtype int8 does not know this model's attention; use dtype auto")
        self._heads = attention.num_heads
        self._in = Int8Linear(weight, bias, levels)
        self._out = Int8Linear(attention.out_proj.weight, attention.out_proj.bias, levels)

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        need_weights: bool = False,
        attn_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, None]:
        """Return float32 (n, tokens, width) and None; query, key and value are one tensor in CLIP."""
        n, tokens, width = query.shape
        q, k, v = self._in(query).view(n, tokens, 3, self._heads, width // self._heads).permute(2, 0, 3, 1, 4)
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self._out(mixed.transpose(1, 2).reshape(n, tokens, width)), None
