"""Turns to one query vector. Pure: features come in, and a generator asks for what is to be combined.

Turns are folded from the oldest on. A turn without a reference takes the composed query so far as its
reference: combiners expect raw features, so the unit query is scaled back to the length of the
features it grew from. A dialogue that began with a text goes on at the length of the catalog's images, for a
CLIP's texts may be much shorter, and a combiner would hardly see what was said first.

Feedback moves the query after Rocchio (1971), or as the engine recommends. Rocchio:
query' = normalise(ALPHA * query + BETA * mean(liked) - GAMMA * mean(disliked)), with the weights
that Manning, Raghavan and Schuetze give as reasonable (Introduction to Information Retrieval, section 9.1.1):
what is liked says more than what is disliked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
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
    """Part that a turn plays in a dialogue."""

    TEXT_ONLY = "text_only"
    REFERENCE_ONLY = "reference_only"
    COMPOSED = "composed"
    CONTINUED = "continued"
    FEEDBACK_ONLY = "feedback_only"


@dataclass(frozen=True, slots=True)
class TextCut:
    """Size of a text that is longer than the model's context, and of the part that was read, in tokens."""

    tokens: int
    read_tokens: int


@dataclass(frozen=True, slots=True)
class TurnFeatures:
    """One turn with everything looked up.

    `start` holds the raw features float32 (d,) that the turn starts from; None continues the composed query
    of the turn before. `text` holds the raw features (d,) of the text that is combined with it, if any.
    `words` are what `text` was made of. `liked` and `disliked` are unit vectors (n, d); `text_weight` None
    leaves the weight to the combiner. `cut` is set where the model did not read the whole text.
    """

    kind: TurnKind
    start: Vector | None
    text: Vector | None
    liked: Vector
    disliked: Vector
    text_weight: float | None = None
    cut: TextCut | None = None
    words: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Raw features (d,) to be combined for a turn, which counts from 0; `image` may be the query so far."""

    turn: int
    image: Vector
    text: Vector
    text_weight: float | None


@dataclass(frozen=True, slots=True, eq=False)
class ComposedQuery:
    """Composed query vector (float32 (d,), unit length).

    `image` and `text` are the raw features (d,) of the last turn that has any: what it started from, and what
    was said; None for a part that it lacks.
    """

    vector: Vector
    image: Vector | None
    text: Vector | None


class FeedbackMethod(Enum):
    """Method by which liked and disliked items move the query."""

    ROCCHIO = "rocchio"
    RECOMMEND = "recommend"


# (unit query (d,), liked=unit vectors (n, d), disliked=unit vectors (m, d)) -> unit query
Feedback = Callable[..., Vector]

FEEDBACK: dict[FeedbackMethod, Feedback] = {
    FeedbackMethod.ROCCHIO: rocchio,
    FeedbackMethod.RECOMMEND: average_vector,
}


# Yields what is to be combined, is sent the unit query (d,) of it, and returns the whole.
Folding = Generator[Pair, Vector, ComposedQuery]


def fold(
    start: Vector,
    turns: Sequence[TurnFeatures],
    feedback: Feedback = rocchio,
    *,
    image_length: float | None = None,
) -> Folding:
    """Fold turns, oldest first, into one query.

    `start` holds the raw features (d,) that the first turn starts from: of its reference, or of its
    text where it has nothing else. `feedback` moves the query by liked and disliked items. `image_length` is
    the mean length of the catalog's images; without it a text goes on at its own length.
    """
    features = query = start
    image: Vector | None = None
    text: Vector | None = None
    length = float(np.linalg.norm(start))
    for number, turn in enumerate(turns):
        if turn.start is not None:
            features = turn.start
            length = float(np.linalg.norm(features))
        if turn.kind is TurnKind.TEXT_ONLY:
            image, text = None, features
            length = image_length or length
        elif turn.kind is not TurnKind.FEEDBACK_ONLY:
            image, text = features, turn.text
        if turn.text is not None:
            query = yield Pair(number, features, turn.text, turn.text_weight)
        else:
            query = normalize(features)
        query = feedback(query, liked=turn.liked, disliked=turn.disliked)
        features = query * np.float32(length)
    return ComposedQuery(query, image, text)


async def answered(folding: Folding, combine: Callable[[Pair], Awaitable[Vector]]) -> ComposedQuery:
    """Run a folding to its end, with the unit query (d,) that `combine` gives for each pair."""
    try:
        pair = next(folding)
        while True:
            pair = folding.send(await combine(pair))
    except StopIteration as ended:
        composed: ComposedQuery = ended.value
        return composed
