"""Paired bootstrap: is one combiner better than another on the same queries by more than chance? Pure.

The queries are drawn anew with replacement, both combiners answer the same draw, and the differences of many
draws show how far the measured one may be off (Efron and Tibshirani, An Introduction to the Bootstrap, 1993).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from combiner_service.combiner import Float64

_RESAMPLES = 2_000
_AT_ONCE = 1 << 22


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean difference of two scores over the same queries, and the bounds that 95 of 100 draws lie within."""

    mean: float
    low: float
    high: float

    @property
    def better(self) -> bool:
        """True if the first is better by more than chance."""
        return self.low > 0

    @property
    def text(self) -> str:
        """In points of a hundred."""
        return (
            f"{100 * self.mean:+.1f} points (95 % of draws: {100 * self.low:+.1f} to {100 * self.high:+.1f})"
        )

    def document(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "better": self.better}


def paired_difference(first: ArrayLike, second: ArrayLike, *, seed: int = 0) -> Difference:
    """Return the difference of the scores of each query, first minus second.

    Raises:
        ValueError: The scores are not of the same queries, or there are none.
    """
    differences: Float64 = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    count = len(differences)
    if not count:
        raise ValueError("there are no queries to compare on; expected at least one")
    random = np.random.default_rng(seed)
    means = []
    left = _RESAMPLES
    while left:
        part = min(left, max(1, _AT_ONCE // count))
        means.append(differences[random.integers(count, size=(part, count))].mean(axis=1))
        left -= part
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return Difference(float(differences.mean()), float(low), float(high))
