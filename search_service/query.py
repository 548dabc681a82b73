"""Turns to one query vector. Pure: features come in, combining is a function that is handed in.

Turns are folded from the oldest on. A turn without a reference takes the composed query so far as its
reference: combiners expect raw features, so the unit query is scaled back to the length of the
features it grew from.

Feedback moves the query after Rocchio (1971), or as the engine recommends. Rocchio:
query' = normalise(ALPHA * query + BETA * mean(liked) - GAMMA * mean(disliked)), with the weights
that Manning, Raghavan and Schuetze give as reasonable (Introduction to Information Retrieval, section 9.1.1):
what is liked says more than what is disliked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from cir.vectors import normalize

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


Vector = NDArray[np.float32]


class TurnKind(Enum):
    """How a turn is taken."""

    TEXT_ONLY = "text_only"
    REFERENCE_ONLY = "reference_only"
    COMPOSED = "composed"
    CONTINUED = "continued"
    FEEDBACK_ONLY = "feedback_only"


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn with everything looked up: raw features float32 (d,), unit vectors (n, d) of feedback items."""

    reference: Vector | None
    text: Vector | None
    liked: NDArray[np.float32]
    disliked: NDArray[np.float32]
    text_weight: float | None = None


@dataclass(frozen=True, slots=True)
class TurnResult:
    """What a turn did; `text_weight` lies in [0, 1]."""

    kind: TurnKind
    text_weight: float


@dataclass(frozen=True, slots=True)
class ComposedQuery:
    """The composed query (float32 (d,), unit length) and what each turn did."""

    query: Vector
    turns: tuple[TurnResult, ...]


# (unit query (d,), liked=unit vectors (n, d), disliked=unit vectors (m, d)) -> unit query
Feedback = Callable[..., Vector]
# (image features, text features, text weight or None) -> (unit query vector, text weight)
Combine = Callable[[Vector, Vector, float | None], Awaitable[tuple[Vector, float]]]


def turn_kind(*, first: bool, has_reference: bool, has_text: bool) -> TurnKind | None:
    """How a turn with these parts is taken; None for a first turn that gives nothing to start from."""
    if has_reference:
        return TurnKind.COMPOSED if has_text else TurnKind.REFERENCE_ONLY
    if has_text:
        return TurnKind.TEXT_ONLY if first else TurnKind.CONTINUED
    return None if first else TurnKind.FEEDBACK_ONLY


async def fold(turns: Sequence[Turn], combine: Combine, feedback: Feedback = rocchio) -> ComposedQuery:
    """Fold turns, oldest first, into one query. `feedback` moves it by liked and disliked items.

    Raises `ValueError` when there is nothing to start from.
    """
    reference: Vector | None = None
    query: Vector | None = None
    done: list[TurnResult] = []
    for turn in turns:
        kind = turn_kind(
            first=query is None, has_reference=turn.reference is not None, has_text=turn.text is not None
        )
        if turn.reference is not None:
            reference = turn.reference
        elif query is not None and reference is not None:
            reference = query * np.float32(np.linalg.norm(reference))
        weight = 0.0
        if kind is TurnKind.TEXT_ONLY and turn.text is not None:
            reference, weight = turn.text, 1.0
            query = normalize(turn.text)
        elif reference is None or kind is None:
            raise ValueError("the first turn has neither a reference nor a text")
        elif turn.text is not None:
            query, weight = await combine(reference, turn.text, turn.text_weight)
        else:
            query = normalize(reference)
        query = feedback(query, liked=turn.liked, disliked=turn.disliked)
        done.append(TurnResult(kind, weight))
    if query is None:
        raise ValueError("there are no turns")
    return ComposedQuery(query, tuple(done))
