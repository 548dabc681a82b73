"""Filters rewritten to what engines answer exactly: ranges over numbers, and moments that are matched. Pure.

Engines take the bounds of a range as doubles, and one of their ways of comparing turns the stored integer
into a double as well. Beyond 2^53 neighbouring integers then look alike. A range over integers is therefore
written as a union that all ways of comparing agree on: a range between doubles that no integer outside is
rounded to, and the integers at its ends one by one, since equality is exact. Near 2^63 these are up to 1,535
a side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime

from cir.datetimes import parse_span
from cir.fields import EXACT_IN_FLOAT, INT64, FieldType
from vector_store.filters import Condition, Filter, MatchAny, Range

_LOWEST, _HIGHEST = INT64[0], INT64[-1]


def exact_filter(where: Filter | None, schema: Mapping[str, FieldType]) -> Filter | None:
    """Return a checked filter with the same meaning that engines answer exactly."""
    if not where:
        return where
    return Filter(
        tuple(_exact(condition, schema) for condition in where.must),
        tuple(_exact(condition, schema) for condition in where.should),
        tuple(_exact(condition, schema) for condition in where.must_not),
    )


def _exact(condition: Condition, schema: Mapping[str, FieldType]) -> Condition:
    match condition:
        case Filter():
            return exact_filter(condition, schema) or condition
        case MatchAny(field, values) if values and schema[field] is FieldType.DATETIME:
            return Filter(should=tuple(_span(field, str(value)) for value in values))
        case Range(field) if schema[field] is FieldType.INTEGER:
            return _integer_range(condition)
        case Range(field) if schema[field] is FieldType.FLOAT:
            return _float_range(condition)
    return condition


def _span(field: str, text: str) -> Range:
    """Return the range of the moments that a text equals."""
    start, end = parse_span(text)
    return Range(field, gte=start, lte=end) if start == end else Range(field, gte=start, lt=end)


def _integer_range(condition: Range) -> Condition:
    low, high = _lowest(condition), _highest(condition)
    if low > high:
        return Range(condition.field, gte=1.0, lte=0.0)  # nothing passes
    first = float(_LOWEST) if low == _LOWEST else _first_double(low)
    last = float(_HIGHEST) if high == _HIGHEST else -_first_double(-high)
    if first > last:
        return MatchAny(condition.field, tuple(range(low, high + 1)))
    below, above = range(low, min(int(first), high + 1)), range(max(int(last) + 1, low), high + 1)
    between = Range(condition.field, gte=first, lte=last)
    ends = (*below, *above)
    return Filter(should=(between, MatchAny(condition.field, ends))) if ends else between


def _lowest(condition: Range) -> int:
    """Return the smallest integer that the lower bounds let pass, no less than the smallest of 64 bits."""
    low = _LOWEST
    if condition.gt is not None:
        low = max(low, math.floor(_number(condition.gt)) + 1)
    if condition.gte is not None:
        low = max(low, math.ceil(_number(condition.gte)))
    return low


def _highest(condition: Range) -> int:
    high = _HIGHEST
    if condition.lt is not None:
        high = min(high, math.ceil(_number(condition.lt)) - 1)
    if condition.lte is not None:
        high = min(high, math.floor(_number(condition.lte)))
    return high


def _first_double(low: int) -> float:
    """Return the smallest double from `low` on to which no integer below `low` is rounded."""
    double = float(low)
    if abs(low) < EXACT_IN_FLOAT:
        return double
    if double < low:
        double = math.nextafter(double, math.inf)
    # Halfway to the double before it, an integer may be rounded either way.
    while -(-(int(math.nextafter(double, -math.inf)) + int(double)) // 2) < low:
        double = math.nextafter(double, math.inf)
    return double


def _float_range(condition: Range) -> Range:
    """Return the range with bounds that are doubles: a whole number between two of them moves to the next."""
    low = [_lower(bound, strict) for bound, strict in ((condition.gt, True), (condition.gte, False))]
    high = [_lower(bound, strict, -1) for bound, strict in ((condition.lt, True), (condition.lte, False))]
    lowest, above = max((side for side in low if side), default=(None, False))
    highest, below = max((side for side in high if side), default=(None, False))
    if highest is not None:
        highest = -highest
    return Range(
        condition.field,
        gt=lowest if above else None,
        gte=None if above else lowest,
        lt=highest if below else None,
        lte=None if below else highest,
    )


def _lower(bound: float | datetime | None, strict: bool, sign: int = 1) -> tuple[float, bool] | None:
    """Return a lower bound times `sign` as a double, and whether the double itself is left out."""
    if bound is None:
        return None
    exact = sign * _number(bound)
    double = float(exact)
    return double, strict if double == exact else double < exact


def _number(bound: float | datetime) -> float:
    assert not isinstance(bound, datetime)  # noqa: S101  # checked against the schema
    return bound
