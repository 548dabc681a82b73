"""A model whose features are known: of images by their first byte, of texts by their length."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from combiner_training.extract import EmbeddedBatch, ModelIdentity

DIMENSION = 4


class Killed(Exception):
    """Stands for the end of the process."""


class FakeModel:
    """Counts what it embeds; `dies_after` so many items it raises."""

    def __init__(self, *, fingerprint: str = "model-a", batch_items: int = 3, dies_after: int = 1000) -> None:
        self.identity = ModelIdentity(
            fingerprint, DIMENSION, {"architecture": "fake", "preprocessing": "none"}
        )
        self.batch_items = batch_items
        self.embedded: list[bytes | str] = []
        self._dies_after = dies_after
        self._lock = threading.Lock()

    def embed_images(self, pictures: Sequence[bytes]) -> EmbeddedBatch:
        self._take(pictures)
        broken = {index: "broken" for index, picture in enumerate(pictures) if picture == b"broken"}
        return EmbeddedBatch(np.array([image_feature(picture) for picture in pictures], np.float32), broken)

    def embed_texts(self, texts: Sequence[str]) -> EmbeddedBatch:
        self._take(texts)
        return EmbeddedBatch(np.array([[len(text), 1, 2, 3] for text in texts], np.float32))

    def _take(self, items: Sequence[bytes | str]) -> None:
        with self._lock:
            if len(self.embedded) + len(items) > self._dies_after:
                raise Killed
            self.embedded += items


def image_feature(picture: bytes) -> list[float]:
    """Return the feature that the fake model gives for an image."""
    return [np.nan] * DIMENSION if picture == b"broken" else [float(picture[0]), 0.5, -1.0, 2.0]


class Silent:
    """Progress that remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []

    def start(self, what: str, total: int) -> None:
        self.heard.append((what, total))

    def advance(self, done: int, note: str = "") -> None:
        self.heard.append((note, done))

    def stop(self) -> None:
        self.heard.append(("stop", 0))
