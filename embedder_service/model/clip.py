"""The CLIP model on its device: pixels and tokens in, raw features out.

The text tower runs without the padding, so that a short text costs what its own tokens cost. In CLIP a token
attends only to those before it and the feature is read at the end-of-text token, so what comes after that
token cannot change the feature. Cutting a batch to its longest text gives the same features as the full
context of 77, several times faster for texts of usual length."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import torch
from open_clip.transformer import text_global_pool

from cir.prompts import Template
from embedder_service.batching.jobs import Features, Tokens
from embedder_service.host import read_cpu_flags
from embedder_service.images.preprocess import Pixels
from embedder_service.model.int8 import quantize
from embedder_service.model.tokenizer import CLIP_TOKENIZER, Tokenizer, make_tokenizer
from embedder_service.model.weights import LoadedModel
from embedder_service.probe import Int8Layers
from embedder_service.prompts import Prompts, Words, cut_length, rounded_length, tokenize_prompts, word_mask
from service_runtime.errors import StartupError


def cast_module(
    module: torch.nn.Module, device: torch.device, dtype: torch.dtype, int8_layers: Int8Layers
) -> torch.nn.Module:
    """Return the module itself on the device in float32, or a copy of it in another dtype.

    Raises:
        StartupError: int8 on another device than the CPU, or where it cannot be computed.
    """
    if dtype is torch.float32:
        return module.to(device)
    if dtype is torch.int8:
        if device.type != "cpu":
            raise StartupError(f"dtype int8 runs on the CPU only, not on {device}; use dtype auto")
        return quantize(module, read_cpu_flags(), int8_layers)
    return copy.deepcopy(module).to(device=device, dtype=dtype)


def input_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of the model's input: int8 layers take and give float32."""
    return torch.float32 if dtype is torch.int8 else dtype


def encode_tokens(module: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Return raw features (n, d) of int64 tokens (n, context), as `module.encode_text` does."""
    if not can_be_cut(module):
        features: torch.Tensor = module.encode_text(tokens)
        return features
    longest = int(tokens.argmax(dim=-1).max()) + 1
    return encode_cut(module, tokens[:, : rounded_length(longest, tokens.shape[1])])


def encode_cut(
    module: Any, tokens: torch.Tensor, words: torch.Tensor | None = None, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Return raw features (n, d) of int64 tokens (n, any length), for a module that `can_be_cut`.

    Where `mask`, (n, length), is true the row's word embedding, one of `words` (n, width), takes the place of
    the token's own.
    """
    length = tokens.shape[1]
    dtype = module.transformer.get_cast_dtype()
    embedded = module.token_embedding(tokens).to(dtype)
    if words is not None and mask is not None:
        embedded = torch.where(mask[:, :, None], words.to(dtype)[:, None], embedded)
    hidden = embedded + module.positional_embedding[:length].to(dtype)
    hidden = module.transformer(hidden, attn_mask=module.attn_mask[:length, :length])
    result: torch.Tensor = text_global_pool(module.ln_final(hidden), tokens, module.text_pool_type)
    projection = module.text_projection
    if isinstance(projection, torch.nn.Linear):
        result = projection(result)
    elif projection is not None:
        result = result @ projection
    return result


def can_be_cut(module: Any) -> bool:
    """Return true where what stands behind a text's end cannot change its feature."""
    return (
        type(module) is open_clip.CLIP and module.text_pool_type == "argmax" and module.attn_mask is not None
    )


def token_width(module: Any, tokenizer: Tokenizer) -> int:
    """Return the length of a word embedding; 0 for a text tower into which none can be put."""
    if tokenizer.name != CLIP_TOKENIZER or not can_be_cut(module):
        return 0
    return int(module.positional_embedding.shape[1])


class ClipModel:
    """One model in one dtype on one device. On a CPU, any thread may encode and tokenise."""

    def __init__(
        self,
        loaded: LoadedModel,
        device: torch.device,
        dtype: torch.dtype,
        int8_layers: Int8Layers = Int8Layers.ALL,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self.module: Any = cast_module(loaded.module, device, dtype, int8_layers)
        self.tokenizer = tokenizer or make_tokenizer(loaded.config, folder=loaded.folder)
        self._mean = torch.tensor(loaded.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(loaded.std, device=device).view(1, 3, 1, 1)
        self.device = device
        self.dtype = dtype
        self.image_size = image_size(loaded)
        self.dimension = int(loaded.config["embed_dim"])
        self.token_width = token_width(self.module, self.tokenizer)

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Return int64 tokens of shape (n, context); longer texts are cut to the context, as CLIP does."""
        return self.tokenizer(texts)

    def long_texts(self, texts: Sequence[str], tokens: Tokens) -> dict[int, int]:
        """Return the number of tokens of each text that was cut, by its place."""
        return self.tokenizer.long_texts(texts, tokens)

    def encode_images(self, pixels: Pixels) -> Features:
        """Return float32 (n, d) raw features of uint8 (n, size, size, 3) RGB pixels."""
        with torch.inference_mode():
            return _to_numpy(self.image_features(self._to_device(pixels)))

    def encode_tokens(self, tokens: Tokens) -> Features:
        """Return float32 (n, d) raw features of int64 (n, context) tokens."""
        with torch.inference_mode():
            return _to_numpy(self.token_features(self._to_device(tokens)))

    def image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return (n, d) features on the device of uint8 (n, size, size, 3) pixels on it."""
        values = pixels.permute(0, 3, 1, 2).to(torch.float32)
        # In the order of operations of torchvision's ToTensor and Normalize.
        values = values.div(255.0).sub_(self._mean).div_(self._std)
        features: torch.Tensor = self.module.encode_image(values.to(input_dtype(self.dtype)))
        return features

    def tokenize_prompts(
        self, template: Template, texts: Sequence[str], words: Words
    ) -> tuple[Prompts, dict[int, int]]:
        """Return sentences, and the tokens of texts that were cut; see `prompts.tokenize_prompts`."""
        return tokenize_prompts(self.tokenizer, template, texts, words)

    def encode_prompts(self, prompts: Prompts) -> Features:
        """Return float32 (n, d) raw features of sentences."""
        tokens = prompts["tokens"]
        length = cut_length(tokens)
        given = (tokens[:, :length], prompts["word"], word_mask(prompts, length))
        with torch.inference_mode():
            return _to_numpy(
                encode_cut(self.module, *(self._to_device(np.ascontiguousarray(one)) for one in given))
            )

    def token_features(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (n, d) features on the device of int64 (n, context) tokens on it."""
        return encode_tokens(self.module, tokens)

    def encode_texts(self, texts: Sequence[str]) -> Features:
        """Return float32 (n, d) raw features of texts."""
        return self.encode_tokens(self.tokenize(texts))

    def _to_device(self, array: npt.NDArray[Any]) -> torch.Tensor:
        # Rows from the wire are read-only, for which from_numpy gives a warning: those are copied.
        tensor = torch.from_numpy(array) if array.flags.writeable else torch.tensor(array)
        return tensor.to(self.device)


def image_size(loaded: LoadedModel) -> int:
    """Return the side of the model's input in pixels.

    Raises:
        StartupError: the input is not a square.
    """
    module: Any = loaded.module
    size = module.visual.image_size
    width, height = size if isinstance(size, (tuple, list)) else (size, size)
    if width != height:
        raise StartupError(
            f"{loaded.architecture} takes images of {width} x {height}; only squares are served"
        )
    return int(width)


def _to_numpy(features: torch.Tensor) -> Features:
    result: Features = features.to(device="cpu", dtype=torch.float32).numpy()
    return result
