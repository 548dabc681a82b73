"""Putting hits into their final order: ties, diversity, groups. Pure, and shared by both engines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from vector_store.points import ScoredItem


def by_score(items: Iterable[ScoredItem]) -> list[ScoredItem]:
    """Best first, equal scores by item id."""
    return sorted(items, key=lambda scored: (-scored.score, scored.item.id))


def diversify(
    ranked: Sequence[ScoredItem], vectors: NDArray[np.float32], diversity: float, count: int
) -> list[ScoredItem]:
    """The first `count` items of an order by maximal marginal relevance.

    After Carbonell and Goldstein, SIGIR 1998. `vectors` are the unit vectors of `ranked`, float32 (n, d).
    Each step takes the item with the largest `(1 - diversity) * score - diversity * (largest cosine to an
    item taken already)`; equals keep their order in `ranked`. The order of the first k items does not
    depend on `count`.
    """
    scores = np.array([scored.score for scored in ranked], dtype=np.float64)
    relevance = (1.0 - diversity) * scores
    nearest = np.zeros(len(ranked))
    left = np.ones(len(ranked), dtype=bool)
    order: list[int] = []
    while len(order) < min(count, len(ranked)):
        value = np.where(left, relevance - diversity * nearest, -np.inf)
        taken = int(np.argmax(value))
        left[taken] = False
        similarity = (vectors @ vectors[taken]).astype(np.float64)
        nearest = similarity if not order else np.maximum(nearest, similarity)
        order.append(taken)
    return [ranked[index] for index in order]


def group(ranked: Iterable[ScoredItem], field: str, size: int) -> list[ScoredItem]:
    """Keep at most `size` items for each value of `field`, in order.

    An item with several values needs room at each of them. Items without a value belong to no group and
    all stay.
    """
    taken: Counter[object] = Counter()
    kept: list[ScoredItem] = []
    for scored in ranked:
        values = set(_values(scored.item.payload.get(field)))
        if all(taken[value] < size for value in values):
            taken.update(values)
            kept.append(scored)
    return kept


def _values(value: object) -> list[object]:
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return [element for element in value if element is not None]
    return [value]
