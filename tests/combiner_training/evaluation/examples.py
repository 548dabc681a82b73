"""Splits with features of known directions, and an evaluation of them by sorting, written from the protocol
alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from combiner_training.datasets.base import Query, Split
from combiner_training.feature_file import FeatureHeader, FeatureKind, FeatureTable

Vector = NDArray[np.float32]
# Directions without accidental ties; images that share one tie exactly.
PALETTE = np.random.default_rng(5).standard_normal((7, 6)).astype(np.float32) * 3


def table_of(
    kind: FeatureKind, features: Mapping[str, Vector | None], fingerprint: str = "model-a"
) -> FeatureTable:
    """A table in memory; None stands for what could not be embedded."""
    dimension = next((len(value) for value in features.values() if value is not None), PALETTE.shape[1])
    rows = [np.full(dimension, np.nan, np.float32) if value is None else value for value in features.values()]
    header = FeatureHeader(kind, tuple(features), dimension, np.dtype(np.float32), fingerprint, {})
    return FeatureTable(header, np.array(rows, np.float32), "a table of the test")


def split_of(
    queries: Sequence[Query], gallery: Sequence[str], dataset: str = "triplets", name: str = "val"
) -> Split:
    """A split without files."""
    names = {n for q in queries for n in (q.reference, *q.targets, *q.group)} | set(gallery)
    return Split(dataset, name, tuple(queries), tuple(gallery), {n: Path(n) for n in names})


@dataclass(frozen=True)
class Expected:
    """Ranks by query id, 0 where a query cannot be answered, infinity where no target is ranked."""

    ranks: dict[str, list[float]]
    subset_ranks: dict[str, list[float]]

    def recall(self, k: int, *, subset: bool = False) -> float:
        ranks = self.subset_ranks if subset else self.ranks
        return sum(min(found) <= k for found in ranks.values()) / len(ranks)

    def mean_average_precision(self, k: int, targets: Mapping[str, int]) -> float:
        total = 0.0
        for query, found in self.ranks.items():
            relevant = {rank for rank in found if not math.isinf(rank)}
            hits, precision = 0, 0.0
            for place in range(1, k + 1):
                if place in relevant:
                    hits += 1
                    precision += hits / place
            total += precision / min(k, targets[query])
        return total / len(self.ranks)


def by_sorting(
    split: Split,
    images: Mapping[str, Vector | None],
    query_vectors: Mapping[str, Vector],
    *,
    keep_reference: bool,
    gallery: Sequence[str] | None = None,
) -> Expected:
    """Sort all names by score for each query that can be answered; `query_vectors` by query id, unit
    length."""
    listed = list(dict.fromkeys(split.gallery if gallery is None else gallery))
    ranked = [name for name in listed if images[name] is not None]
    place = {name: at for at, name in enumerate(listed)}
    rows = {}
    for name in ranked:
        wide = np.asarray(images[name], np.float64)
        rows[name] = (wide / np.sqrt((wide**2).sum())).astype(np.float32).astype(np.float64)
    ranks: dict[str, list[float]] = {}
    subset: dict[str, list[float]] = {}
    for query in split.queries:
        if query.id not in query_vectors or images[query.reference] is None:
            continue
        in_gallery = [name for name in query.targets if name in listed]
        if in_gallery and all(images[name] is None for name in in_gallery):
            continue
        vector = query_vectors[query.id].astype(np.float64)

        def order(names: Sequence[str], vector: NDArray[np.float64] = vector) -> list[str]:
            scores = {}
            for name in names:
                scores[name] = float((vector * rows[name]).sum())
            return sorted(names, key=lambda name: (-scores[name], place[name]))

        whole = order([name for name in ranked if keep_reference or name != query.reference])
        few = order([name for name in ranked if name in query.group and name != query.reference])
        ranks[query.id] = [_place(whole, name) for name in dict.fromkeys(query.targets)]
        subset[query.id] = [_place(few, name) for name in dict.fromkeys(query.targets)]
    return Expected(ranks, subset)


def _place(names: Sequence[str], name: str) -> float:
    return names.index(name) + 1 if name in names else math.inf
