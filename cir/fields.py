"""Types of payload fields, and values of them in the form in which they are stored. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TypeGuard

from cir.datetimes import parse_datetime
from cir.limits import is_text

INT64 = range(-(2**63), 2**63)
#: Up to this size every integer is a float; a larger float does not tell the digits that were meant.
EXACT_IN_FLOAT = 2**53

PayloadValue = str | int | float | bool | None | Mapping[str, float] | Sequence["PayloadValue"]
Payload = Mapping[str, PayloadValue]


class FieldType(StrEnum):
    """Type of a payload field; arrays of the type are allowed everywhere."""

    KEYWORD = "keyword"
    INTEGER = "integer"
    FLOAT = "float"
    BOOL = "bool"
    DATETIME = "datetime"
    GEO = "geo"
    TEXT = "text"


def has_type(value: object, kind: FieldType) -> bool:
    """Return whether a single, non-null value has the type `kind`."""
    match kind:
        case FieldType.KEYWORD | FieldType.TEXT:
            return isinstance(value, str) and is_text(value)
        case FieldType.INTEGER:
            return isinstance(value, int) and not isinstance(value, bool) and value in INT64
        case FieldType.FLOAT:
            return is_number(value) and float(value) == value
        case FieldType.BOOL:
            return isinstance(value, bool)
        case FieldType.DATETIME:
            return isinstance(value, str) and _is_datetime(value)
        case FieldType.GEO:
            return _is_geo(value)


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether `value` is a finite number; booleans are not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return value in INT64 if isinstance(value, int) else math.isfinite(value)


def _is_datetime(value: str) -> bool:
    try:
        parse_datetime(value)
    except ValueError:
        return False
    return True


def _is_geo(value: object) -> bool:
    if not isinstance(value, Mapping) or set(value) != {"lat", "lon"}:
        return False
    lat, lon = value["lat"], value["lon"]
    return is_number(lat) and is_number(lon) and abs(lat) <= 90 and abs(lon) <= 180
