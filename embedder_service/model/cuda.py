"""Transfer of rows to a CUDA device and of features back, while the device computes.

Rows are stacked straight into pinned memory that is kept from batch to batch, and uploaded on a separate
stream: batch N + 1 uploads while N computes. Features come back into pinned memory the same way and are
copied out of it, so that no result shares memory with a later one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from cir.prompts import Template
from embedder_service.batching.jobs import Features, Rows, Tokens
from embedder_service.images.preprocess import Pixels
from embedder_service.model.clip import ClipModel
from embedder_service.prompts import Prompts, Words


class StagingBuffers:
    """Host memory for batches, reused once it was given back. For one thread.

    A device copies from and to `pinned` memory without the host's help; allocating it is slow, so it is kept,
    for each shape of rows and dtype. Batches in flight hold a buffer each.
    """

    def __init__(self, *, pinned: bool) -> None:
        self._pinned = pinned
        self._free: dict[tuple[Any, ...], list[torch.Tensor]] = {}

    def take(self, rows: int, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Return memory for at least (rows, *shape), reserved for the caller until it is given back."""
        free = self._free.setdefault((tuple(shape), dtype), [])
        buffer = free.pop() if free else None
        if buffer is None or len(buffer) < rows:
            # A buffer that is too small is dropped: soon all are as large as the largest batch.
            buffer = torch.empty((rows, *shape), dtype=dtype, pin_memory=self._pinned)
        return buffer

    def stack(self, rows: Rows) -> torch.Tensor:
        """Copy rows of equal shape to the front of a buffer.

        Raises:
            ValueError: their shapes differ.
        """
        first = np.asarray(rows[0])
        dtype = torch.from_numpy(np.empty(0, first.dtype)).dtype
        buffer = self.take(len(rows), first.shape, dtype)
        np.stack(list(rows), out=buffer.numpy()[: len(rows)])
        return buffer

    def give_back(self, buffer: torch.Tensor) -> None:
        """Return a buffer for reuse: no device copies from or to it any more."""
        self._free[tuple(buffer.shape[1:]), buffer.dtype].append(buffer)


class CudaModel:
    """A model on a CUDA device whose passes can be launched one ahead. For one thread, except `tokenize`
    and `long_texts`."""

    def __init__(self, model: ClipModel) -> None:
        self._model = model
        self.dimension = model.dimension
        self.token_width = model.token_width
        self._staging = StagingBuffers(pinned=True)
        self._results = StagingBuffers(pinned=True)
        self._upload: Any = torch.cuda.Stream(model.device)  # type: ignore[no-untyped-call]
        self._compute = torch.cuda.current_stream(model.device)

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Return tokens, like `ClipModel.tokenize`."""
        return self._model.tokenize(texts)

    def long_texts(self, texts: Sequence[str], tokens: Tokens) -> dict[int, int]:
        """Return the tokens of texts that were cut, like `ClipModel.long_texts`."""
        return self._model.long_texts(texts, tokens)

    def tokenize_prompts(
        self, template: Template, texts: Sequence[str], words: Words
    ) -> tuple[Prompts, dict[int, int]]:
        """Return sentences, like `ClipModel.tokenize_prompts`."""
        return self._model.tokenize_prompts(template, texts, words)

    def encode_prompts(self, prompts: Prompts) -> Features:
        """Return float32 (n, d) of sentences."""
        with torch.cuda.device(self._model.device), torch.cuda.stream(self._compute):
            return self._model.encode_prompts(prompts)

    def launch_prompts(self, rows: Rows) -> Callable[[], Features]:
        """Make a pass of sentences, which are few: nothing is uploaded ahead."""
        features = self.encode_prompts(np.stack(list(rows)))
        return lambda: features

    def encode_images(self, pixels: Pixels) -> Features:
        """Return float32 (n, d) of uint8 (n, size, size, 3)."""
        return self.launch_images(pixels)()

    def encode_tokens(self, tokens: Tokens) -> Features:
        """Return float32 (n, d) of int64 (n, context)."""
        return self.launch_tokens(tokens)()

    def launch_images(self, rows: Rows) -> Callable[[], Features]:
        """Begin a pass of uint8 (size, size, 3) images; the result waits for float32 (n, d)."""
        return self._launch(rows, self._model.image_features)

    def launch_tokens(self, rows: Rows) -> Callable[[], Features]:
        """Begin a pass of int64 (context,) texts; the result waits for float32 (n, d).

        Cutting texts to the longest one reads it back from the device, so this waits for the pass before.
        """
        return self._launch(rows, self._model.token_features)

    def _launch(self, rows: Rows, forward: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], Features]:
        # Each thread has its own default stream: both streams are named, whichever thread this is.
        with torch.inference_mode(), torch.cuda.device(self._model.device):
            staged = self._staging.stack(rows)
            with torch.cuda.stream(self._upload):
                device = staged[: len(rows)].to(self._model.device, non_blocking=True)
            with torch.cuda.stream(self._compute):
                self._compute.wait_stream(self._upload)
                # Its memory belongs to the upload stream; it must not be reused before it was read.
                device.record_stream(self._compute)
                features = forward(device).to(torch.float32)
                result = self._results.take(len(features), features.shape[1:], torch.float32)
                result[: len(features)].copy_(features, non_blocking=True)
                arrived: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
                arrived.record(self._compute)

        def wait() -> Features:
            arrived.synchronize()
            answer: Features = result.numpy()[: len(rows)].copy()
            self._staging.give_back(staged)
            self._results.give_back(result)
            return answer

        return wait
