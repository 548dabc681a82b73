"""Filters as they are typed on a command line, with the types of the catalog's schema. Pure.

colour=red        equal           colour=red,blue   one of them (a comma in a value: \\,)
colour!=red       not equal       price<20  price<=20  price>5  price>=5
title=two words   every word, in a text field
place=52.5,13.4,1000   within metres of latitude, longitude, in a geo field
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from cir.failure import Failure
from cir.filters import Condition, Filter, GeoRadius, MatchAny, MatchText, Range
from cir.values import GeoPoint

_FORM = re.compile(r"(?P<field>.+?)(?P<operator>!=|<=|>=|=|<|>)(?P<value>.*)", re.DOTALL)
_BOUNDS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_BOOLS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def parse_filters(texts: Sequence[str], schema: Mapping[str, str]) -> Filter | None:
    """All of `texts` must hold; None without any. Raises `Failure`, naming the text at fault."""
    if not texts:
        return None
    must: list[Condition] = []
    must_not: list[Condition] = []
    for text in texts:
        match = _FORM.fullmatch(text)
        if match is None:
            raise Failure(f"filter {text!r}: expected FIELD=VALUE, or one of != < <= > >= in place of =")
        field, operator, value = match["field"].strip(), match["operator"], match["value"].strip()
        if field not in schema:
            known = ", ".join(schema) or "none"
            raise Failure(f"filter {text!r}: the catalog has no field {field!r}; its fields: {known}")
        try:
            if operator in _BOUNDS:
                bound = _bound(value, schema[field])
                must.append(Range(field, **{_BOUNDS[operator]: bound}))
            else:
                (must if operator == "=" else must_not).append(_equal(field, value, schema[field]))
        except ValueError as error:
            raise Failure(f"filter {text!r}: {error}") from error
    return Filter(must=must, must_not=must_not)


def _equal(field: str, text: str, kind: str) -> Condition:
    if kind == "text":
        return MatchText(field, text)
    if kind == "geo":
        return _circle(field, text)
    parts = [part.replace("\\,", ",") for part in re.split(r"(?<!\\),", text)]
    if kind in ("float", "datetime"):
        ranges = [Range(field, gte=bound, lte=bound) for bound in (_bound(part, kind) for part in parts)]
        return ranges[0] if len(ranges) == 1 else Filter(should=ranges)
    return MatchAny(field, [_scalar(part, kind) for part in parts])


def _scalar(text: str, kind: str) -> str | int | bool:
    if kind == "integer":
        return _integer(text)
    if kind == "bool":
        if text.lower() not in _BOOLS:
            raise ValueError(f"{text!r} is not true or false")
        return _BOOLS[text.lower()]
    return text


def _bound(text: str, kind: str) -> float | datetime:
    if kind == "integer":
        return _integer(text)
    if kind == "float":
        return _number(text)
    if kind == "datetime":
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(
                f"{text!r} is no point in time; write 2026-01-31 or 2026-01-31T12:00+01:00"
            ) from None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    raise ValueError(f"a {kind} field has no order; use = or !=")


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def _circle(field: str, text: str) -> GeoRadius:
    parts = text.split(",")
    if len(parts) != 3:
        raise ValueError("a geo field takes LATITUDE,LONGITUDE,METRES")
    latitude, longitude, metres = (_number(part) for part in parts)
    return GeoRadius(field, GeoPoint(latitude, longitude), metres)
