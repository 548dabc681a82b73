"""A bounded map of features by content that forgets what was used longest ago."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping

import numpy as np
import numpy.typing as npt


class FeatureCache:
    """Features by key, at most `size` of them; 0 keeps none. Safe with threads.

    Values are float32 of shape (d,), kept as read-only copies, so that a row does not keep the batch alive
    that it was computed in.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._rows: OrderedDict[Hashable, npt.NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    @property
    def enabled(self) -> bool:
        """Whether anything is ever kept; if not, a caller need not compute keys."""
        return self._size > 0

    def get(self, key: Hashable) -> npt.NDArray[np.float32] | None:
        """Return the features kept under `key`, or None, and count a hit or a miss."""
        if not self.enabled:
            return None
        with self._lock:
            row = self._rows.get(key)
            if row is None:
                self.misses += 1
                return None
            self.hits += 1
            self._rows.move_to_end(key)
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
            for key, row in kept.items():
                self._rows[key] = row
                self._rows.move_to_end(key)
            while len(self._rows) > self._size:
                self._rows.popitem(last=False)
