"""Forward passes that a test controls."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from embedder_service.batching.batcher import Batcher
from embedder_service.batching.jobs import Tower

POISON = 13


class Fake:
    """A model whose feature is the row itself; it fails on multiples of POISON, and counts what it saw."""

    def __init__(self, *, gate: threading.Event | None = None) -> None:
        self.seen: dict[Tower, list[int]] = {tower: [] for tower in Tower}
        self.sizes: list[int] = []
        self.entered = threading.Event()
        self._gate = gate

    def batcher(self, max_batch: int = 8, bulk: int = 8, lanes: int = 1) -> Batcher:
        forwards = {tower: self._forward(tower) for tower in Tower}
        return Batcher(forwards, dimension=2, max_batch=max_batch, shared_bulk_batch=bulk, lanes=lanes)

    def _forward(self, tower: Tower) -> Any:
        def forward(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            self.entered.set()
            if self._gate is not None:
                assert self._gate.wait(30)
            if (rows % POISON == 0).any():
                raise ValueError("poison")
            self.sizes.append(len(rows))
            self.seen[tower].extend(rows.tolist())
            return np.stack([rows, -rows], axis=1).astype(np.float32)

        return forward


def plain(forward: Any, **options: Any) -> Batcher:
    """A batcher with the same forward pass for both towers."""
    chosen: dict[str, Any] = {"dimension": 2, "max_batch": 8, "shared_bulk_batch": 8}
    return Batcher(dict.fromkeys(Tower, forward), **(chosen | options))


def twice(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.repeat(rows.reshape(len(rows), -1)[:, :1], 2, axis=1).astype(np.float32)
