"""Retrieval metrics from ranks. Pure, numpy alone.

A query counts as a hit at k if any of its targets is among the first k. Ranks begin with 1; a target that is
not in the ranking has a rank larger than any k (`ranking.NOT_RANKED`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from combiner_service.combiner import Float64

Ranks = NDArray[np.int64]


def recall_at(ranks: Ranks, k: int) -> float:
    """Share of queries with a target among the first k. (n, T) -> [0, 1]; ValueError for no queries."""
    _check(ranks)
    return float((ranks <= k).any(axis=1).mean())


def average_precision_at(ranks: Ranks, target_counts: NDArray[np.int64], k: int) -> Float64:
    """AP@k of each query: the precision at each target among the first k, over min(k, targets there are).

    As in CIRCO's evaluation (Baldrati et al., ICCV 2023). `target_counts`, (n,), are the right answers of
    each query, also those that are not ranked. (n, T) -> (n,) in [0, 1].
    """
    ordered = np.sort(ranks, axis=1)
    hit = ordered <= k
    nth = np.arange(1, ranks.shape[1] + 1)
    precision = np.where(hit, nth / np.where(hit, ordered, 1), 0.0).sum(axis=1)
    average: Float64 = precision / np.maximum(np.minimum(k, target_counts), 1)
    return average


def mean_average_precision_at(ranks: Ranks, target_counts: NDArray[np.int64], k: int) -> float:
    """mAP@k over all queries; ValueError for no queries."""
    _check(ranks)
    return float(average_precision_at(ranks, target_counts, k).mean())


def unsteady_at(ranks: Ranks, wishes: Sequence[int], k: int) -> float:
    """Share of the wishes of several queries with a target among the first k of some of them and not of all.

    `wishes` (n,) has one number for queries that ask for the same in other words. ValueError where no wish
    has two queries.
    """
    _check(ranks)
    hits = (ranks <= k).any(axis=1)
    numbers = np.unique(np.asarray(wishes), return_inverse=True)[1]
    counts, right = np.bincount(numbers), np.bincount(numbers, weights=hits)
    several = counts > 1
    if not several.any():
        raise ValueError("no wish has two queries; expected several wordings of one")
    return float(((right > 0) & (right < counts))[several].mean())


def dialogue_success(turn_ranks: Sequence[Ranks], k: int) -> tuple[float, ...]:
    """Success after each turn: the share of dialogues with a right answer of that turn among its first k.

    `turn_ranks`: for each turn, (n, T) of the dialogues that have it.
    """
    return tuple(recall_at(ranks, k) for ranks in turn_ranks)


def arithmetic_mean(values: Sequence[float]) -> float:
    """The plain mean; ValueError for no values."""
    return float(np.mean(_some(values)))


def harmonic_mean(values: Sequence[float]) -> float:
    """n / sum(1 / x), 0 where any value is 0."""
    numbers = _some(values)
    return float(len(numbers) / np.sum(1.0 / numbers)) if (numbers > 0).all() else 0.0


def geometric_mean(values: Sequence[float]) -> float:
    """The n-th root of the product, 0 where any value is 0."""
    numbers = _some(values)
    return float(np.exp(np.mean(np.log(numbers)))) if (numbers > 0).all() else 0.0


def mean_of(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The plain mean of each metric over parts (categories), as FashionIQ's headline is made."""
    return {name: arithmetic_mean([part[name] for part in parts]) for name in parts[0]}


def _some(values: Sequence[float]) -> Float64:
    if not len(values):
        raise ValueError("there are no values to take a mean of; expected at least one")
    return np.asarray(values, np.float64)


def _check(ranks: Ranks) -> None:
    if ranks.ndim != 2 or not len(ranks):
        raise ValueError(f"ranks have the shape {ranks.shape}; expected (queries, targets) with some queries")
