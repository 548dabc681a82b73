"""What a word is to a text filter; defined here so that it is the same on every engine."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_WORD = re.compile(r"[^\W_]+")


def words_of(texts: Iterable[str]) -> list[str]:
    """The different words of `texts` in order of appearance.

    A word is a longest run of letters and digits after Unicode NFKC normalisation and case folding, so
    scripts that are written without spaces give one word per run.
    """
    found: dict[str, None] = {}
    for text in texts:
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
        found.update(dict.fromkeys(_WORD.findall(folded)))
    return list(found)
