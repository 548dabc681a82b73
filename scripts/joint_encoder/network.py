"""A transformer that reads the patches of an image and the tokens of a text together, in torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WORDS, TOKENS, GRID, WIDTH = 2048, 16, 7, 64
_SHRINK, _CELL = 4, 4
_LAYERS, _HEADS = 2, 4


class JointNetwork(nn.Module):
    """One sequence of a mark, 49 patches and the first 16 tokens of the text; the mark's output is the query.

    Pixels are shrunk to 28 x 28 first. Token ids fall into 2,048 words by their remainder, so that the table
    stays small; words that fall together cannot be told apart.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.patches = nn.Linear(3 * _CELL * _CELL, WIDTH)
        self.words = nn.Embedding(WORDS, WIDTH)
        self.mark = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.places = nn.Parameter(0.02 * torch.randn(1, 1 + GRID * GRID + TOKENS, WIDTH))
        self.layers = nn.ModuleList(Layer() for _ in range(_LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.out = nn.Linear(WIDTH, dimension)

    def forward(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        """Return unit queries of pixels (n, 3, 112, 112), 0 to 1, and token ids (n, 16), filled with 0."""
        small = functional.avg_pool2d(pixels - 0.5, _SHRINK)
        cells = functional.unfold(small, _CELL, stride=_CELL).transpose(1, 2)
        words = self.words(torch.remainder(tokens, WORDS)) * (tokens > 0)[:, :, None].to(pixels.dtype)
        mark = self.mark.expand(pixels.shape[0], -1, -1)
        hidden = torch.cat([mark, self.patches(cells), words], dim=1) + self.places
        for layer in self.layers:
            hidden = layer(hidden)
        return functional.normalize(self.out(self.norm(hidden[:, 0])), dim=-1)


class Layer(nn.Module):
    """A pre-norm transformer layer, written out so that it exports as plain products."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.joined = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (n, length, width) of the same."""
        count, length, _ = hidden.shape
        parts = self.qkv(self.before(hidden)).reshape(count, length, 3, _HEADS, WIDTH // _HEADS)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        read = functional.scaled_dot_product_attention(query, key, value)
        hidden = hidden + self.joined(read.transpose(1, 2).reshape(count, length, WIDTH))
        further: Tensor = hidden + self.mlp(self.between(hidden))
        return further
