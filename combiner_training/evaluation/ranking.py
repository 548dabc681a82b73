"""Ranks by cosine, exact and without sorting the gallery. Pure, numpy alone.

Scores are computed in float32, a chunk of queries at a time. Whatever lies so near to a target that rounding
could change the order is scored again in float64, pair by pair, so that ranks depend neither on the chunks
nor on where an image stands in the matrix.

Ties: of images with the same score (copies of one image) the one that comes first in the gallery ranks
first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from combiner_service.combiner import Float32, Float64

Positions = NDArray[np.int64]

#: Stands for an image that is not in the ranking. Larger than any rank.
NOT_RANKED = int(np.iinfo(np.int64).max)
#: Stands for no image in a padded row of positions.
NONE = -1
# Scores of one chunk: 64 MiB of float32, and masks of a quarter each.
_CHUNK_SCORES = 1 << 24
# Numbers of one block of pairs in float64: 32 MiB.
_BLOCK_NUMBERS = 1 << 22


def target_ranks(
    queries: Float32, gallery: Float32, targets: Positions, excluded: Positions | None = None
) -> Positions:
    """Return the rank of each target in the ranking of the whole gallery, 1 for the first, (n, T) int64.

    `queries` (n, d) and `gallery` (N, d) are unit vectors. `targets` (n, T) are positions in the gallery,
    NONE where a query has fewer. `excluded` (n,) is a position that is taken out of each query's ranking (its
    reference), or NONE. The rank is NOT_RANKED for NONE and for what is excluded.
    """
    ranks = np.full(targets.shape, NOT_RANKED, np.int64)
    margin = _margin(queries.shape[1])
    for chunk, scores in _chunks(queries, gallery, excluded):
        line = np.arange(len(scores))
        part = queries[chunk]
        for slot in range(targets.shape[1]):
            target = targets[chunk, slot]
            there = target != NONE
            if excluded is not None:
                there &= target != excluded[chunk]
            if not there.any():
                continue
            target = np.where(there, target, 0)
            bound = scores[line, target][:, None]
            surely_above = scores > bound + margin
            near = (scores >= bound - margin) ^ surely_above
            near[~there] = False
            rows, columns = np.nonzero(near)
            better = _before(part, gallery, rows, columns, target)
            above = surely_above.sum(axis=1) + np.bincount(rows[better], minlength=len(line))
            ranks[chunk, slot] = np.where(there, above + 1, NOT_RANKED)
    return ranks


def top(queries: Float32, gallery: Float32, count: int, excluded: Positions | None = None) -> Positions:
    """Return the first `count` positions of each ranking, (n, count) int64, filled up with NONE.

    Arguments as for `target_ranks`.
    """
    best = np.full((len(queries), count), NONE, np.int64)
    margin = _margin(queries.shape[1])
    taken = min(count, len(gallery))
    for chunk, scores in _chunks(queries, gallery, excluded):
        last = np.partition(scores, len(gallery) - taken, axis=1)[:, len(gallery) - taken, None]
        rows, columns = np.nonzero((scores >= last - margin) & np.isfinite(scores))
        exact = _exact(queries[chunk], gallery, rows, columns)
        order = np.lexsort((columns, -exact, rows))
        rows, columns = rows[order], columns[order]
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)
        kept = place < count
        best[chunk.start + rows[kept], place[kept]] = columns[kept]
    return best


def group_ranks(queries: Float32, gallery: Float32, members: Positions, targets: Positions) -> Positions:
    """Return the rank of each target among its query's group, 1 for the first, (n, T) int64.

    `queries` (n, d) and `gallery` (N, d) are unit vectors. `members` (n, M) are distinct positions, NONE
    where a group is smaller; `targets` (n, T) are positions, NONE where a query has fewer. The rank is
    NOT_RANKED for NONE and for targets that are not members.
    """
    ranks = np.full(targets.shape, NOT_RANKED, np.int64)
    if not members.size:
        return ranks
    rows, slots = np.nonzero(members != NONE)
    scores = np.full(members.shape, -np.inf)
    scores[rows, slots] = _exact(queries, gallery, rows, members[rows, slots])
    for slot in range(targets.shape[1]):
        target = targets[:, slot, None]
        own = (members == target) & (target != NONE)
        score = np.where(own, scores, -np.inf).max(axis=1, keepdims=True)
        ahead = (scores > score) | ((scores == score) & (members < target) & (members != NONE))
        ranks[:, slot] = np.where(own.any(axis=1), 1 + (ahead & ~own).sum(axis=1), NOT_RANKED)
    return ranks


def padded(lists: Sequence[Sequence[int]]) -> Positions:
    """Lists of positions as rows of one matrix (n, longest) int64, filled up with NONE."""
    rows = np.full((len(lists), max(map(len, lists), default=0)), NONE, np.int64)
    for row, positions in zip(rows, lists, strict=True):
        row[: len(positions)] = positions
    return rows


def _chunks(
    queries: Float32, gallery: Float32, excluded: Positions | None
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Scores (c, N) of some queries at a time, -inf for what is excluded."""
    length = max(1, _CHUNK_SCORES // max(len(gallery), 1))
    for start in range(0, len(queries), length):
        chunk = slice(start, min(start + length, len(queries)))
        scores = queries[chunk] @ gallery.T
        if excluded is not None:
            rows = np.flatnonzero(excluded[chunk] != NONE)
            scores[rows, excluded[chunk][rows]] = -np.inf
        yield chunk, scores


def _margin(dimension: int) -> np.float32:
    """More than two scores of unit vectors can be off together: a sum of d products is off by d * 2^-24 at
    most (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1)."""
    return np.float32(2.5 * (dimension + 2) * 2.0**-24)


def _before(
    queries: Float32, gallery: Float32, rows: Positions, columns: Positions, target: Positions
) -> NDArray[np.bool_]:
    """Return true where gallery[columns] ranks before target[rows] for queries[rows]."""
    mine = _exact(queries, gallery, rows, target[rows])
    other = _exact(queries, gallery, rows, columns)
    before: NDArray[np.bool_] = (other > mine) | ((other == mine) & (columns < target[rows]))
    return before


def _exact(queries: Float32, gallery: Float32, rows: Positions, columns: Positions) -> Float64:
    """Scores of pairs in float64. Each is summed alone and in one order, so that copies score the same."""
    scores = np.empty(len(rows), np.float64)
    block = max(1, _BLOCK_NUMBERS // queries.shape[1])
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        products = queries[rows[part]].astype(np.float64) * gallery[columns[part]]
        scores[part] = products.sum(axis=1)
    return scores
