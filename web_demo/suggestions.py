"""What one could say: changes made from the commonest values of a catalog's fields. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

_COLOURS = ("colour", "color")
_SKIP = ("id", "split", "price", "caption", "image", "path", "name", "title")


def facet_fields(schema: Mapping[str, str], most: int = 6) -> list[str]:
    """The fields that people filter by: keywords and yes-or-no, colours first."""
    fields = [
        name for name, kind in schema.items() if kind in ("keyword", "bool") and name.lower() not in _SKIP
    ]
    return sorted(fields, key=lambda name: (name.lower() not in _COLOURS, fields.index(name)))[:most]


def changes(
    facets: Mapping[str, Sequence[str]], of_item: Mapping[str, object], *, seed: int = 0, most: int = 6
) -> list[str]:
    """Texts that would change an item: values of its fields that it has not."""
    rng = random.Random(seed)  # noqa: S311  # suggestions, not secrets
    texts: list[str] = []
    for field, values in facets.items():
        others = [value for value in values if value != of_item.get(field) and len(value) <= 30]
        for value in rng.sample(others, min(2, len(others))):
            texts.append(f"in {value}" if field.lower() in _COLOURS else f"{_article(field, value)}")
    rng.shuffle(texts)
    return texts[:most]


def _article(field: str, value: str) -> str:
    if field.lower() in ("kind", "type", "category", "label"):
        return f"a {value} instead" if value[:1].lower() not in "aeiou" else f"an {value} instead"
    return f"{value} instead"
