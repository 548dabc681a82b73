"""Words about items: their titles, and what a visitor might say next. Pure."""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from cir.models import FacetCount, Item, Result
from web_demo.filters import COLOUR_FIELDS, is_word, reads_as_words

MAX_SUGGESTIONS = 6
_NOUN_FIELDS = ("kind", "type", "category", "label")
_TITLE_FIELDS = ("title", "name", "product_name", "productname", "caption", "headline", "display_name")
_MAX_SUGGESTED_CHARACTERS = 30


def words_of(facets: Mapping[str, Sequence[FacetCount]], items: int) -> dict[str, list[str]]:
    """Return the values of those fields that read as words of a shop, by field."""
    return {
        field: [str(count.value) for count in counts]
        for field, counts in facets.items()
        if reads_as_words(counts, items)
    }


def suggest_changes(
    values: Mapping[str, Sequence[str]], payload: Mapping[str, object], *, seed: int = 0
) -> list[str]:
    """Return texts that would change an item: of `values` by field, some that its payload does not have."""
    rng = random.Random(seed)  # noqa: S311  # suggestions, not secrets
    texts: list[str] = []
    for field, known in values.items():
        others = [
            value
            for value in known
            if value != payload.get(field) and len(value) <= _MAX_SUGGESTED_CHARACTERS
        ]
        texts += [change(field, value) for value in rng.sample(others, min(2, len(others)))]
    rng.shuffle(texts)
    return texts[:MAX_SUGGESTIONS]


def change(field: str, value: str) -> str:
    """Return words that ask for a value of a field."""
    field = field.lower()
    if field in COLOUR_FIELDS:
        return f"in {value}"
    if field in _NOUN_FIELDS:
        if re.search(r"[^s]s$", value, re.IGNORECASE):  # shoes, pants
            return f"{value} instead"
        return f"{'an' if value[:1].lower() in 'aeiou' else 'a'} {value} instead"
    return f"{value} instead"


def item_title(item: Result | Item) -> str:
    """Return the name to show for an item.

    That is its title, else the name of its image's file where somebody wrote that, else what its payload says
    in words, else its id.
    """
    by_name = {name.lower(): value for name, value in item.payload.items()}
    for name in _TITLE_FIELDS:
        if isinstance(value := by_name.get(name), str) and value.strip():
            return value
    stem = PurePosixPath(item.image.rpartition("\\")[2]).stem
    tidy = re.sub(r"[\s_+-]+", " ", stem).strip()
    if is_word(tidy) and not re.search(r"\d", tidy):
        return tidy
    words = [value for value in item.payload.values() if isinstance(value, str) and is_word(value)]
    return ", ".join(dict.fromkeys(words[:3])) or item.id


def is_beyond_latin(text: str) -> bool:
    """Return True when a text has letters of another script than the Latin one."""
    return any(
        character.isalpha() and not unicodedata.name(character, "").startswith("LATIN") for character in text
    )
