"""The text tower of a model in torch, for the training of inversions."""

from __future__ import annotations

from typing import Any

import torch

from cir_cli.errors import Failure
from cir_cli.run_features import settings_of
from embedder_service.model.clip import ClipModel, encode_cut
from embedder_service.model.load import load
from service_runtime.errors import StartupError


class TorchTextTower:
    """The frozen text tower of a model, in float32 on the CPU; see `combiner_training.inversion.TextTower`.

    Raises:
        Failure: The model cannot be loaded, or its text tower takes no word embeddings.
    """

    def __init__(self, chosen: dict[str, Any]) -> None:
        settings = settings_of({**chosen, "device": "cpu", "dtype": "float32", "runtime": "torch"})
        try:
            served = load(settings)
        except StartupError as error:
            raise Failure(str(error)) from error
        assert isinstance(served.model, ClipModel)  # noqa: S101  # of torch
        self._model = served.model
        tokenizer = self._model.tokenizer
        if not self._model.token_width:
            raise Failure(
                f"the text tower of {served.info.architecture} takes no word embeddings; an inversion needs "
                "a CLIP of OpenAI's or open_clip's own kind, with its tokenizer"
            )
        self.fingerprint = served.info.fingerprint
        self.dimension = self._model.dimension
        self.token_width = self._model.token_width
        self.context, self.begin, self.end = tokenizer.context, tokenizer.begin, tokenizer.end
        self._model.module.requires_grad_(False)

    def words(self, text: str) -> list[int]:
        """Return the ids of all words of a text."""
        return self._model.tokenizer.words(text)

    def encode(
        self, tokens: torch.Tensor, words: torch.Tensor | None = None, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return raw features (n, d) of tokens (n, length), with words in the place of some."""
        return encode_cut(self._model.module, tokens, words, mask)
