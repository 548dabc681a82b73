"""The last block of a transformer, for the one token of each row whose feature is read.

Keys and values are those of all tokens; query, output projection and multilayer perceptron are computed for
the token alone. Features are the same. Of a block's work a sixth is left: of twelve blocks 7 % are saved.
"""

from __future__ import annotations

from typing import Any

import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.transformer import ResidualAttentionBlock, Transformer, VisionTransformer


def encode_image(module: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Return raw features (n, d) of float (n, 3, size, size) pixels, as `module.encode_image` does."""
    features: torch.Tensor
    if not reads_class_token(module):
        features = module.encode_image(pixels)
        return features
    visual = module.visual
    hidden = visual._embeds(pixels)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        hidden = block(hidden)
    features, _ = visual._pool(_for_first(last, hidden))
    return features if visual.proj is None else features @ visual.proj


def reads_class_token(module: Any) -> bool:
    """Return true where of the image tower's last block the class token alone is read."""
    visual: Any = getattr(module, "visual", None)
    return (
        type(module) in (CLIP, CustomTextCLIP)
        and type(visual) is VisionTransformer
        and visual.attn_pool is None
        and visual.pool_type == "tok"
        and not visual.output_tokens
        and type(visual.transformer) is Transformer
        and visual.transformer.batch_first
        and type(visual.transformer.resblocks[-1]) is ResidualAttentionBlock
    )


def _for_first(block: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Return (n, 1, width), what the block makes of the first token of hidden values (n, tokens, width)."""
    normal = block.ln_1(hidden)
    attended, _ = block.attn(normal[:, :1], normal, normal, need_weights=False)
    first = hidden[:, :1] + block.ls_1(attended)
    made: torch.Tensor = first + block.ls_2(block.mlp(block.ln_2(first)))
    return made
