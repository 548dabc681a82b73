"""Which text is true of which picture, as far as that is known. Pure.

What is known of a picture, and what a text tells, are rows of numbers, one for each attribute. A text that
leaves an attribute out is true of pictures with any value of it; of a picture whose attribute is not known, a
text that tells it is neither true nor false.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from garments.vocabulary import KINDS, VALUES
from scripts.small_clip.labels import PHOTO_KINDS

Row = npt.NDArray[np.int64]

NAMES = tuple(VALUES)
WORDS: Mapping[str, tuple[str, ...]] = {**VALUES, "kind": (*KINDS, *PHOTO_KINDS)}
"""Attribute to its values: those of drawn garments, and the kinds that only photos have."""
UNKNOWN = -1


def numbered(attributes: Mapping[str, str]) -> Row:
    """Attributes as int64 (attributes,); UNKNOWN where one is not given."""
    return np.array(
        [WORDS[name].index(attributes[name]) if name in attributes else UNKNOWN for name in NAMES], np.int64
    )


def compared(pictures: Row, texts: Row) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return bool (n, m) each: which texts (m, attributes) are true of which pictures (n, ...), and false."""
    known, told = pictures[:, None, :], texts[None, :, :]
    is_told = told != UNKNOWN
    false = (is_told & (known != UNKNOWN) & (known != told)).any(axis=-1)
    true = (~is_told | (known == told)).all(axis=-1)
    return true, false
