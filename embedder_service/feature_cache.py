"""Least-recently-used cache of features by content."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache


class FeatureCache:
    """Features by key, at most `size` of them; 0 keeps none. Safe with threads.

    Values are float32 of shape (d,), kept as read-only copies, so that a row does not keep the batch alive
    that it was computed in.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._rows: LRUCache[Hashable, npt.NDArray[np.float32]] = LRUCache(size)
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    @property
    def enabled(self) -> bool:
        """True when anything is ever kept; if not, a caller need not compute keys."""
        return self._size > 0

    def get(self, key: Hashable) -> npt.NDArray[np.float32] | None:
        """Return the features kept under `key`, or None, and count a hit or a miss."""
        if not self.enabled:
            return None
        with self._lock:
            row = self._rows.get(key)
            if row is None:
                self.misses += 1
            else:
                self.hits += 1
            return row

    def put(self, key: Hashable, row: npt.NDArray[np.float32]) -> None:
        """Keep a copy of `row` under `key`."""
        self.put_all({key: row})

    def put_all(self, rows: Mapping[Hashable, npt.NDArray[np.float32]]) -> None:
        """Keep a copy of each row under its key."""
        if not self.enabled or not rows:
            return
        kept = {key: row.copy() for key, row in rows.items()}
        for row in kept.values():
            row.flags.writeable = False
        with self._lock:
            self._rows.update(kept)
