"""Generated vectors with the shape of embeddings, and exact search over them, a block at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

BLOCK = 1_000
"""Rows that are made and written together."""


@dataclass(frozen=True, slots=True)
class Clusters:
    """`points` unit vectors around `clusters` random centres, the same ones for every call.

    Centres and the normal noise around them (`noise` times the centres' spread) have a spread that falls with
    the dimension i as (1 + i)^-0.5, as that of embeddings does. With much noise clusters overlap, so that the
    graph has to be searched and recall moves with `ef`. Queries are drawn as the vectors are.
    """

    points: int
    dimension: int = 512
    clusters: int = 500
    noise: float = 1.5

    def blocks(self) -> Iterator[Vectors]:
        """All vectors in order, float32 (BLOCK, d) each but the last."""
        centres = self._centres()
        for first in range(0, self.points, BLOCK):
            generator = np.random.default_rng([1, first])
            yield self._around(centres, min(BLOCK, self.points - first), generator)

    def queries(self, count: int) -> Vectors:
        """Unit vectors that are not among the points, float32 (count, d)."""
        return self._around(self._centres(), count, np.random.default_rng(2))

    def _spread(self) -> NDArray[np.float64]:
        return np.asarray((1.0 + np.arange(self.dimension)) ** -0.5, dtype=np.float64)

    def _centres(self) -> NDArray[np.float64]:
        raw = np.random.default_rng(0).normal(size=(self.clusters, self.dimension))
        return raw * self._spread()

    def _around(self, centres: NDArray[np.float64], count: int, generator: np.random.Generator) -> Vectors:
        away = generator.normal(size=(count, self.dimension)) * self._spread()
        vectors = centres[generator.integers(len(centres), size=count)] + self.noise * away
        unit: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        return unit


def exact_rows(
    clusters: Clusters, queries: Vectors, filters: Mapping[str, tuple[int, int]], limit: int
) -> dict[str, list[set[int]]]:
    """The rows of the `limit` nearest vectors of each query, by filter.

    A filter (modulus, remainder) is passed by the rows that leave that remainder.
    """
    none = np.empty((len(queries), 0))
    best = {name: (none.astype(np.float32), none.astype(np.int64)) for name in filters}
    first = 0
    for block in clusters.blocks():
        scores = queries @ block.T
        rows = np.arange(first, first + len(block))
        for name, (modulus, remainder) in filters.items():
            passing = rows % modulus == remainder
            kept = np.concatenate([best[name][0], scores[:, passing]], axis=1)
            known = np.broadcast_to(rows[passing], (len(queries), int(passing.sum())))
            places = np.concatenate([best[name][1], known], axis=1)
            if kept.shape[1] > limit:
                nearest = np.argpartition(-kept, limit, axis=1)[:, :limit]
                kept = np.take_along_axis(kept, nearest, axis=1)
                places = np.take_along_axis(places, nearest, axis=1)
            best[name] = (kept, places)
        first += len(block)
    return {name: [set(row.tolist()) for row in places] for name, (_, places) in best.items()}


def time_exact(clusters: Clusters, queries: Vectors, limit: int) -> list[float]:
    """Seconds of exact search with numpy, one query at a time; all vectors are in memory, as float32."""
    matrix = np.empty((clusters.points, clusters.dimension), dtype=np.float32)
    first = 0
    for block in clusters.blocks():
        matrix[first : first + len(block)] = block
        first += len(block)
    times = []
    for query in queries:
        start = time.perf_counter()
        scores = matrix @ query
        best = np.argpartition(-scores, limit)[:limit] if len(scores) > limit else np.arange(len(scores))
        _ = best[np.argsort(-scores[best])]
        times.append(time.perf_counter() - start)
    return times
