"""Truth of texts about images, as far as it is known. Pure.

The known attributes of an image, and those that a text states, are rows of numbers, one for each attribute.
A text that leaves an attribute out is true of images with any value of it; of an image whose attribute is not
known, a text that states it is neither true nor false.
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
    """Return attributes as int64 (attributes,); UNKNOWN where one is not given."""
    return np.array(
        [WORDS[name].index(attributes[name]) if name in attributes else UNKNOWN for name in NAMES], np.int64
    )


def compared(images: Row, texts: Row) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return bool (n, m) twice: texts (m, attributes) that are true of images (n, attributes), and false."""
    known, stated = images[:, None, :], texts[None, :, :]
    is_stated = stated != UNKNOWN
    false = (is_stated & (known != UNKNOWN) & (known != stated)).any(axis=-1)
    true = (~is_stated | (known == stated)).all(axis=-1)
    return true, false
