"""The probe: a few drawn images and texts by whose features two ways to compute a model are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

import numpy as np

from embedder_service.batching.jobs import Features, Tokens
from embedder_service.images.preprocess import Pixels

PROBE_TEXTS = (
    "",
    "a red dress",
    "is shorter and has long sleeves",
    "the same shirt in dark blue with a floral pattern and a round collar",
)

#: Texts that tell tokenizers apart: scripts, case, marks, spaces, numbers, and more words than any context
#: has.
TOKENIZER_TEXTS = (
    "", "a photo of a red dress", "A PHOTO of a Red Dress!", "is shorter; has long_sleeves & no collar (3/4)",
    "  two   spaces\tand\nlines ", "ein ärmelloses Kleid, größer", "una camisa más clara",
    "une robe à fleurs d'été", "красное платье", "赤いドレス", "红色的连衣裙", "빨간 드레스", "فستان أحمر",
    "लाल पोशाक", "ชุดสีแดง", "🧥👗", "unbelievablyoverengineered 1234567890", "word " * 600,
)  # fmt: skip


class Int8Layers(StrEnum):
    """Choice of quantised linear layers, from all of them to the fewest that are worth it."""

    ALL = "attention and MLPs of both towers"
    IMAGE_AND_TEXT_MLPS = "attention and MLPs of the image tower, MLPs of the text tower"
    MLPS = "MLPs of both towers"


class Probed(Protocol):
    """A model whose features can be compared."""

    image_size: int

    def encode_images(self, pixels: Pixels) -> Features:
        """Return float32 (n, d) of uint8 (n, size, size, 3)."""

    def encode_texts(self, texts: Sequence[str]) -> Features:
        """Return float32 (n, d) of texts."""


Model = TypeVar("Model", bound=Probed)


@dataclass(frozen=True, slots=True)
class Compared(Generic[Model]):
    """A model whose features were compared with expected ones."""

    model: Model
    cosine: float
    """Smallest cosine of its features to the expected ones."""
    name: str


def first_within(
    candidates: Iterable[tuple[str, Callable[[], Model]]], expected: Features, bound: float
) -> tuple[Compared[Model] | None, float]:
    """Return the first candidate whose smallest cosine reaches `bound`, or None; and the best cosine seen.

    `candidates` are names, and functions that make a model.
    """
    best = 0.0
    for name, make in candidates:
        model = make()
        cosine = smallest_cosine(probe_features(model), expected)
        best = max(best, cosine)
        if cosine >= bound:
            return Compared(model, cosine, name), best
    return None, best


def probe_features(model: Probed) -> Features:
    """Return features of a few drawn images and texts, as rows.

    Images go one by one, as most come: a runtime keeps what it prepares for each number of rows.
    """
    images = [model.encode_images(image[None]) for image in probe_images(model.image_size)]
    return np.concatenate([*images, model.encode_texts(PROBE_TEXTS)])


def probe_images(size: int) -> Pixels:
    """Return uint8 (8, size, size, 3): black, white, two gradients, and noise of four grains."""
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 255, size, dtype=np.float32)
    across = np.broadcast_to(ramp[None, :, None], (size, size, 3))
    down = np.broadcast_to(ramp[:, None, None], (size, size, 3)) * np.array([1.0, 0.5, 0.0], np.float32)
    flat = np.zeros((size, size, 3), np.float32)
    noise = []
    for grain in (1, 4, 16, 64):
        cells = random.uniform(0, 255, (-(-size // grain), -(-size // grain), 3)).astype(np.float32)
        noise.append(cells.repeat(grain, axis=0).repeat(grain, axis=1)[:size, :size])
    return np.stack([flat, flat + 255, across, down, *noise]).astype(np.uint8)


def smallest_cosine(left: Features, right: Features) -> float:
    """Return the smallest cosine between rows of the same index; 0 when a feature is not finite."""
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines = (left * right).sum(axis=1, dtype=np.float64) / np.maximum(norms, 1e-12)
    return float(cosines.min()) if np.isfinite(cosines).all() else 0.0


def tokens_digest(tokens: Tokens) -> str:
    """Return a hash of what a tokenizer makes of `TOKENIZER_TEXTS`: two that agree on it are the same."""
    exact = np.ascontiguousarray(tokens, dtype="<i8")
    return hashlib.sha256(repr(exact.shape).encode() + exact.tobytes()).hexdigest()[:32]
