"""Filters over item payloads: plain data, one meaning on every engine.

A `Filter` holds when every `must` holds, no `must_not` holds and, where `should` is not empty, at
least one `should` holds. Conditions nest: a `Filter` is itself a condition. Field names are names of
the catalog's payload schema; an array holds when any of its elements does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

Scalar = str | int | bool


@dataclass(frozen=True, slots=True)
class MatchAny:
    """The field equals any of `values` (keyword, integer, bool or datetime fields).

    Of a datetime field the values are texts (RFC 3339), of which a date alone is its whole day in UTC.
    """

    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """The field lies within the bounds given (integer, float or datetime fields); None leaves a side open."""

    field: str
    gt: float | datetime | None = None
    gte: float | datetime | None = None
    lt: float | datetime | None = None
    lte: float | datetime | None = None


@dataclass(frozen=True, slots=True)
class Exists:
    """The field is present with a value that is neither null nor an empty list."""

    field: str


@dataclass(frozen=True, slots=True)
class HasId:
    """The item's id is one of `ids`."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GeoRadius:
    """The geo field lies within `radius_meters` metres of the centre (degrees, WGS 84)."""

    field: str
    latitude: float
    longitude: float
    radius_meters: float


@dataclass(frozen=True, slots=True)
class MatchText:
    """Every word of `text` occurs in the text field; `vector_store.words` says where a word ends."""

    field: str
    text: str


@dataclass(frozen=True, slots=True)
class Filter:
    """Clauses over conditions; an empty filter lets every item pass."""

    must: tuple[Condition, ...] = ()
    should: tuple[Condition, ...] = ()
    must_not: tuple[Condition, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.must or self.should or self.must_not)


Condition = MatchAny | Range | Exists | HasId | GeoRadius | MatchText | Filter
