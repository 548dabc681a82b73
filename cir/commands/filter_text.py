"""Filters as they are typed on a command line, with the types of the catalog's schema. Pure.

colour=red        equal           colour=red,blue   one of them (a comma in a value: \\,)
colour!=red       not equal       price<20  price<=20  price>5  price>=5
title=two words   every word, in a text field
place=52.5,13.4,1000   within metres of latitude, longitude, in a geo field
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from cir.commands.typed_text import elements, integer, moment, number, numbers, scalar
from cir.failure import Failure
from cir.filters import Condition, Filter, GeoRadius, MatchAny, MatchText, Range
from cir.values import GeoPoint

_FORM = re.compile(r"(?P<field>.+?)(?P<operator>!=|<=|>=|=|<|>)(?P<value>.*)", re.DOTALL)
_BOUNDS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}


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
        latitude, longitude, metres = numbers(text, 3, "LATITUDE,LONGITUDE,METRES")
        return GeoRadius(field, GeoPoint(latitude, longitude), metres)
    parts = elements(text)
    if kind in ("float", "datetime"):
        ranges = [Range(field, gte=bound, lte=bound) for bound in (_bound(part, kind) for part in parts)]
        return ranges[0] if len(ranges) == 1 else Filter(should=ranges)
    return MatchAny(field, [scalar(part, kind) for part in parts])


def _bound(text: str, kind: str) -> float | datetime:
    if kind == "integer":
        return integer(text)
    if kind == "float":
        return number(text)
    if kind == "datetime":
        return moment(text)
    raise ValueError(f"a {kind} field has no order; use = or !=")
