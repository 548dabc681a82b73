"""Stable pages and final order: how many hits to ask a backend for, then ties, diversity and groups.

Pure, and shared by all engines."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from vector_store.base import SearchOptions
from vector_store.errors import InvalidQueryError
from vector_store.types import ScoredItem

MAX_WINDOW = 10_000
"""Deepest `offset + limit` of a query; `scroll` reads everything."""

MAX_FETCH = 16_384
"""Most hits that one query ever asks an engine for."""

MAX_DIVERSE = 2_048
"""Most items that are put into an order of diversity; what follows keeps its order by score."""

DEFAULT_EF = 128
MAX_EF = 65_536
MAX_OVERSAMPLING = 16.0


def check_window(limit: int, offset: int) -> int:
    """Return `offset + limit`.

    Raises:
        InvalidQueryError: one of them is negative, or the sum is more than `MAX_WINDOW`.
    """
    if limit < 0:
        raise InvalidQueryError(f"limit {limit} is negative", field="limit")
    if offset < 0:
        raise InvalidQueryError(f"offset {offset} is negative", field="offset")
    if offset + limit > MAX_WINDOW:
        raise InvalidQueryError(
            f"offset + limit is {offset + limit}, more than {MAX_WINDOW}; scroll to read everything",
            field="offset",
        )
    return offset + limit


def check_options(options: SearchOptions) -> None:
    """Raise `InvalidQueryError` for a number outside its range."""
    if not 0.0 <= options.diversity <= 1.0:
        raise InvalidQueryError(f"diversity {options.diversity}: expected 0 to 1", field="diversity")
    if options.group_size < 1:
        raise InvalidQueryError(f"group_size {options.group_size}: expected 1 or more", field="group_size")
    if options.ef is not None and not 1 <= options.ef <= MAX_EF:
        raise InvalidQueryError(f"ef {options.ef}: expected 1 to {MAX_EF}", field="ef")
    if not 1.0 <= options.oversampling <= MAX_OVERSAMPLING:
        raise InvalidQueryError(
            f"oversampling {options.oversampling}: expected 1 to {MAX_OVERSAMPLING:.0f}", field="oversampling"
        )
    if options.score_threshold is not None and not math.isfinite(options.score_threshold):
        raise InvalidQueryError(
            f"score_threshold {options.score_threshold} is not finite", field="score_threshold"
        )


def first_fetch(window: int, options: SearchOptions) -> int:
    """Return how many hits to ask for first.

    One more than the window shows whether a tie crosses its end. Diversity and groups choose from a pool
    of a size that steps in powers of two, so that neighbouring pages choose from the same pool.
    """
    if options.diversity > 0.0 or options.group_by:
        return min(max(256, power_of_two(2 * window)), MAX_FETCH)
    return window + 1


def search_ef(fetch: int, options: SearchOptions) -> int:
    """Return the number of candidates that the graph search keeps.

    A graph search that returns k hits keeps at least k candidates, so its first hits would change from
    page to page with k; a step in powers of two keeps them the same.
    """
    return max(options.ef or DEFAULT_EF, power_of_two(fetch))


def power_of_two(number: int) -> int:
    """The smallest power of two that is not below `number`."""
    return 1 << max(number - 1, 0).bit_length()


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
    elements = value if isinstance(value, (list, tuple)) else [value]
    return [element for element in elements if isinstance(element, (str, int, float))]
