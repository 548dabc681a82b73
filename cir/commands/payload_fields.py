"""Payloads as they are typed on a command line, with the types of the catalog's schema. Pure.

colour=red        one value       colour=red,blue   a list of values (a comma in a value: \\,)
title=red, long   a text field takes everything after the = as it is
place=52.5,13.4   latitude, longitude, in a geo field
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from cir.commands.typed_text import elements, moment, number, numbers, scalar
from cir.failure import Failure
from cir.values import GeoPoint, Scalar, Value


def parse_fields(texts: Sequence[str], schema: Mapping[str, str]) -> dict[str, Value]:
    """Values by field. Raises `Failure`, naming the text at fault."""
    fields: dict[str, Value] = {}
    for text in texts:
        field, separator, value = text.partition("=")
        field = field.strip()
        if not separator or not field:
            raise Failure(f"--set {text!r}: expected FIELD=VALUE")
        if field not in schema:
            known = ", ".join(schema) or "none"
            raise Failure(
                f"--set {text!r}: the catalog has no field {field!r}; its fields: {known} (--payload stores "
                "others, which cannot be filtered by)"
            )
        if field in fields:
            raise Failure(f"--set names {field!r} twice; for several values write {field}=ONE,TWO")
        try:
            fields[field] = _value(value.strip(), schema[field])
        except ValueError as error:
            raise Failure(f"--set {text!r}: {error}") from error
    return fields


def parse_payload(text: str) -> dict[str, object]:
    """A whole payload from a JSON object; {"lat": ..., "lon": ...} is a place. Raises `Failure`."""
    try:
        read = json.loads(text)
    except ValueError as error:
        raise Failure(f"--payload is no JSON: {error}") from error
    if not isinstance(read, dict):
        raise Failure('--payload: expected a JSON object, such as {"colour": "red"}')
    return {name: _with_places(value) for name, value in read.items()}


def _value(text: str, kind: str) -> Value:
    if kind == "geo":
        return GeoPoint(*numbers(text, 2, "LATITUDE,LONGITUDE"))
    if kind == "text":
        return text
    values = [_scalar(part, kind) for part in elements(text)]
    return values[0] if len(values) == 1 else values


def _scalar(text: str, kind: str) -> Scalar:
    if kind == "float":
        return number(text)
    return moment(text) if kind == "datetime" else scalar(text, kind)


def _with_places(value: object) -> object:
    if isinstance(value, list):
        return [_with_places(element) for element in value]
    if isinstance(value, dict) and value.keys() == {"lat", "lon"}:
        return GeoPoint(value["lat"], value["lon"])
    return value
