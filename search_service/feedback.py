"""Relevance feedback after Rocchio (1971), on unit vectors. Pure.

query' = normalise(ALPHA * query + BETA * mean(liked) - GAMMA * mean(disliked)), with the weights that
Manning, Raghavan and Schuetze give as reasonable (Introduction to Information Retrieval, section 9.1.1):
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
