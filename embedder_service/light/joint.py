"""The joint encoder that ships as an example: a small transformer over patches and tokens."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedder_service.batching.jobs import Features
from embedder_service.images.preprocess import Pixels
from embedder_service.joint import JointEncoder
from embedder_service.light.onnx_file import check_onnx
from embedder_service.prompts import WordTokenizer
from embedder_service.served import ServedModel
from service_runtime.openvino_core import core, precision

#: The encoder, and next to it the fingerprint of the model in whose space its queries lie.
FOLDER = Path(__file__).parents[1] / "shipped" / "joint-garments"
MODEL, FINGERPRINT = "model.onnx", "fingerprint.txt"
#: Tokens of a text that it reads.
TOKENS = 16


def load_shipped(served: ServedModel) -> JointEncoder | None:
    """Return the shipped encoder, or None for another model than the one that it belongs to.

    Raises:
        StartupError: Its file is damaged.
    """
    path = FOLDER / FINGERPRINT
    if not path.is_file() or path.read_text().strip() != served.info.fingerprint:
        return None
    tokenizer: Any = getattr(served.model, "tokenizer", None)
    return None if tokenizer is None else GarmentsEncoder(FOLDER / MODEL, tokenizer)


class GarmentsEncoder(JointEncoder):
    """A network in ONNX: float32 (n, 3, size, size) pixels, 0 to 1, and int64 (n, 16) tokens to (n, d).

    It is compiled with its first pair, in a tenth of a second: many services never get one.
    """

    description = "Example of a joint encoder, trained on drawn garments: small enough to ship, no rival."

    def __init__(self, path: Path, tokenizer: WordTokenizer) -> None:
        check_onnx(path)
        core.read_model(path)
        self._path, self._tokenizer = path, tokenizer
        self._compiled: Any = None
        self._compiling = threading.Lock()

    def encode(self, pixels: Pixels, texts: Sequence[str]) -> Features:
        """Return unit queries, float32 (n, d)."""
        tokens = np.zeros((len(texts), TOKENS), np.int64)
        for row, text in zip(tokens, texts, strict=True):
            ids = self._tokenizer.words(text)[:TOKENS]
            row[: len(ids)] = ids
        values = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)
        # A request of its own for each call: any thread may come.
        answer = self._network().create_infer_request().infer([values, tokens])[0]
        return np.array(answer, np.float32)

    def _network(self) -> Any:
        with self._compiling:
            if self._compiled is None:
                settings = {"INFERENCE_NUM_THREADS": 1, **precision("float32")}
                self._compiled = core.compile_model(core.read_model(self._path), "CPU", settings)
            return self._compiled
