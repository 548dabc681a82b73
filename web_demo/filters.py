"""Fields of a catalog as a page filters by them: which ones, values as texts, ranges. Pure.

A value of a keyword, bool or integer field is written as it is; a range of numbers or days as `low..high`, of
which one side may be empty.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from cir.fields import INT64
from cir.filters import Condition, Filter, MatchAny, Range
from cir.models import FacetCount

COLOUR_FIELDS = ("colour", "color")
_FIELDS_WITHOUT_FACET = (
    "id",
    "split",
    "caption",
    "image",
    "path",
    "name",
    "title",
    "url",
    "file",
    "filename",
)
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_RANGED = ("integer", "float", "datetime")
_MOST_WORDS = 4
_MOST_CHARACTERS = 30
# A code or a file's name, not a word of a shop: digits that stand in a word, an ending, a long hexadecimal.
_NO_WORD = re.compile(r"[0-9]{3}|[a-z]\d|\d[a-z]|\.[a-z0-9]{2,4}$|[/\\_@#=]|^[0-9a-f-]{12,}$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Bounds:
    """A range of one field: texts as the fields of a form show them, empty for no bound."""

    low: str
    high: str


def choose_facet_fields(schema: Mapping[str, str], limit: int = 6) -> list[str]:
    """Return the fields to filter by value: keyword and bool fields, colours first."""
    fields = [
        name
        for name, kind in schema.items()
        if kind in ("keyword", "bool") and name.lower() not in _FIELDS_WITHOUT_FACET
    ]
    return sorted(fields, key=lambda name: (name.lower() not in COLOUR_FIELDS, fields.index(name)))[:limit]


def choose_range_fields(schema: Mapping[str, str], limit: int = 4) -> list[str]:
    """Return the fields to filter by range: numbers and days."""
    return [
        name for name, kind in schema.items() if kind in _RANGED and name.lower() not in _FIELDS_WITHOUT_FACET
    ][:limit]


def reads_as_words(counts: Sequence[FacetCount], items: int) -> bool:
    """Return True when a field's commonest values are words that somebody in a shop would say.

    There must be several of them, shared by some of the `items`, and none may be a truth value, a number, a
    code or the name of a file.
    """
    values = [count.value for count in counts]
    if len(values) < 2 or not all(isinstance(value, str) and is_word(value) for value in values):
        return False
    return items < 4 * len(values) or max(count.count for count in counts) > 1


def is_word(text: str) -> bool:
    """Return True when a text is a word or a few, not a code, a file's name or a sentence."""
    return (
        0 < len(text.strip()) <= _MOST_CHARACTERS
        and len(text.split()) <= _MOST_WORDS
        and any(character.isalpha() for character in text)
        and not _NO_WORD.search(text)
    )


def read_value(text: str, kind: str) -> str | bool | int | Bounds | None:
    """Return the value or range that a filter's text means in a field of a kind; None where it means none."""
    if kind == "keyword":
        return text
    if kind == "bool":
        return {"true": True, "false": False}.get(text)
    low, dots, high = text.partition("..")
    if kind in _RANGED and dots and (low or high):
        return (
            Bounds(low, high) if all(_bound(side, kind) is not None for side in (low, high) if side) else None
        )
    if kind == "integer" and _INTEGER.fullmatch(text) and int(text) in INT64:
        return int(text)
    return None


def _bound(text: str, kind: str) -> float | datetime | None:
    try:
        if kind == "datetime":
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        if kind == "integer":
            return int(text) if _INTEGER.fullmatch(text) and int(text) in INT64 else None
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def to_where(
    filters: Iterable[tuple[str, str]], schema: Mapping[str, str], *, but: str = ""
) -> Filter | None:
    """Return filters as the search service takes them; None where there is none.

    The values of one field are alternatives. What `schema` lacks is left out, and the field `but`.
    """
    values: dict[str, list[str | int | bool]] = {}
    conditions: list[Condition] = []
    for field, text in filters:
        kind = schema.get(field, "")
        value = None if field == but else read_value(text, kind)
        if isinstance(value, Bounds):
            conditions.append(_range(field, value, kind))
        elif value is not None:
            values.setdefault(field, []).append(value)
    matched: list[Condition] = [MatchAny(field, chosen) for field, chosen in values.items()]
    return Filter(must=[*matched, *conditions]) if matched or conditions else None


def _range(field: str, bounds: Bounds, kind: str) -> Range:
    low, high = _bound(bounds.low, kind), _bound(bounds.high, kind)
    if isinstance(high, datetime):
        # The day that is named belongs to the range, whole; after the last day of all there is none.
        last = high.date() == date.max
        return Range(field, gte=low, lt=None if last else high + timedelta(days=1))
    return Range(field, gte=low, lte=high)
