"""Relevance feedback on unit vectors: after Rocchio (1971), or as the engine recommends. Pure.

Rocchio: query' = normalise(ALPHA * query + BETA * mean(liked) - GAMMA * mean(disliked)), with the weights
that Manning, Raghavan and Schuetze give as reasonable (Introduction to Information Retrieval, section 9.1.1):
what is liked says more than what is disliked.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ALPHA = 1.0
BETA = 0.75
GAMMA = 0.15


def rocchio(
    query: NDArray[np.float32], *, liked: NDArray[np.float32], disliked: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Move a unit query (d,) towards liked and away from disliked unit vectors (n, d); n may be 0.

    A query that feedback would cancel to nothing stays as it is.
    """
    if not len(liked) and not len(disliked):
        return query
    moved = ALPHA * query.astype(np.float64)
    if len(liked):
        moved += BETA * liked.mean(axis=0, dtype=np.float64)
    if len(disliked):
        moved -= GAMMA * disliked.mean(axis=0, dtype=np.float64)
    norm = float(np.linalg.norm(moved))
    return query if norm < 1e-6 else (moved / norm).astype(np.float32)


def average_vector(
    query: NDArray[np.float32], *, liked: NDArray[np.float32], disliked: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The engine's recommendation by average vector, with the query as one of the positives.

    query' = normalise(p + (p - mean(disliked))) with p = mean(query, liked), and normalise(p) without
    disliked items: what Qdrant searches for when it recommends with the strategy average_vector. It is
    computed here because a further turn goes on from it, and because the embedded engine lacks it.
    Shapes as in `rocchio`. A query that feedback would cancel to nothing stays as it is.
    """
    if not len(liked) and not len(disliked):
        return query
    positive = np.vstack([query[None, :], liked]).mean(axis=0, dtype=np.float64)
    moved = positive if not len(disliked) else 2 * positive - disliked.mean(axis=0, dtype=np.float64)
    norm = float(np.linalg.norm(moved))
    return query if norm < 1e-6 else (moved / norm).astype(np.float32)
