"""Explanations of an answer: what image and text gave to a turn, and where a result fits. Pure.

What a part gave is measured by taking it away (leave one out): the same combiner answers once without the
text, an empty text in its place, and once without the image, the mean of the catalog's images in its place.
How far the query lies from each is what the part moved. It holds for every combiner, and looks into none.
docs/explanations.md has the definition, the ones that were tried beside it, and the figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cir.fields import FieldType, Payload, PayloadValue
from search_service.query import Pair, TurnKind, Vector

#: What stands in for a text that is taken away. It is of no language, and every CLIP reads it.
NEUTRAL_TEXT = ""
#: A share of the text below this: the words moved little.
LITTLE = 0.05
# Below this nothing moved: rounding of float32.
_NOTHING = 1e-6

_COMPARED = frozenset((FieldType.KEYWORD, FieldType.INTEGER, FieldType.BOOL))


@dataclass(frozen=True, slots=True, eq=False)
class Neutral:
    """Raw features (d,) of the mean of the catalog's images, and of the neutral text."""

    image: Vector
    text: Vector


@dataclass(frozen=True, slots=True)
class Contribution:
    """Distances, in 1 - cosine, that text and image moved a query; see `contribution`."""

    text_moved: float
    image_moved: float

    @property
    def text_share(self) -> float:
        """The text's part of all that was moved, 0 to 1."""
        return self.text_moved / (self.text_moved + self.image_moved)

    @property
    def text_moved_little(self) -> bool:
        """Tell whether the text hardly moved the query."""
        return self.text_share < LITTLE


def begins_with_text(kinds: Sequence[TurnKind], number: int) -> bool:
    """Tell whether the query that a turn goes on from came from texts alone.

    Two texts are nearer to one another than to an image, so shares there are small whatever is said.
    """
    starts = [
        kind for kind in kinds[: number + 1] if kind not in (TurnKind.CONTINUED, TurnKind.FEEDBACK_ONLY)
    ]
    return bool(starts) and starts[-1] is TurnKind.TEXT_ONLY


def rows(pair: Pair, neutral: Neutral | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the images and texts, (n, d) each, that a combiner is asked for at once.

    The first row is the pair; with `neutral` the pair without its text and the pair without its image follow.
    """
    if neutral is None:
        return pair.image[None], pair.text[None]
    return np.stack([pair.image, pair.image, neutral.image]), np.stack([pair.text, neutral.text, pair.text])


def contribution(queries: NDArray[np.float32]) -> Contribution | None:
    """Return what text and image gave, from the queries, (3, d) unit rows, to the rows of `rows`.

    None where neither moved the query.
    """
    whole, *without = queries.astype(np.float64)
    text_moved, image_moved = (max(0.0, 1.0 - float(whole @ each)) for each in without)
    if text_moved + image_moved < _NOTHING:
        return None
    return Contribution(text_moved, image_moved)


def similarity(features: Vector, other: Vector) -> float:
    """Return the cosine of two vectors of raw features, -1 to 1."""
    a, b = features.astype(np.float64), other.astype(np.float64)
    return float(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1, 1))


def compare_payloads(
    payload: Payload, reference: Payload, schema: Mapping[str, FieldType]
) -> tuple[list[str], list[str]]:
    """Return the fields whose values are other than the reference's, and those whose values are the same.

    Fields of `schema` that have values to compare (keyword, integer, bool) and that both have; lists are
    compared as sets. What one of both does not have is unknown, and unknown is not different.
    """
    changed: list[str] = []
    kept: list[str] = []
    for field in sorted(field for field, kind in schema.items() if kind in _COMPARED):
        ours, theirs = _values(payload.get(field)), _values(reference.get(field))
        if ours and theirs:
            (kept if ours == theirs else changed).append(field)
    return changed, kept


def _values(value: PayloadValue) -> frozenset[tuple[type, object]]:
    """Return the values of a field; True and 1 are two."""
    values = value if isinstance(value, (list, tuple)) else (value,)
    return frozenset((type(each), each) for each in values if isinstance(each, (str, int, bool)))
