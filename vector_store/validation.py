"""Checks of specifications, payloads and filters against a schema: pure, the same for every engine."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from cir.limits import MAX_FILTER_DEPTH, MAX_PAYLOAD_BYTES, field_name_problem, is_text, item_id_problem
from vector_store.errors import InvalidQueryError, UnknownFieldError, WrongFieldTypeError
from vector_store.filters import Condition, Exists, Filter, GeoRadius, HasId, MatchAny, MatchText, Range
from vector_store.payload_index import tokenize
from vector_store.types import FieldType, Quantization, VersionSpec

MAX_DIMENSION = 65_536
MAX_NODES = 1024
INT64 = range(-(2**63), 2**63)

# RFC 3339, with date alone and a missing offset (taken as UTC) allowed: what both engines can compare.
_DATETIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)?)?")


def check_spec(spec: VersionSpec) -> None:
    """Raise `InvalidQueryError` for a dimension, field name or index option that no engine takes."""
    if not 1 <= spec.dimension <= MAX_DIMENSION:
        raise InvalidQueryError(
            f"dimension {spec.dimension}: expected 1 to {MAX_DIMENSION}", field="dimension"
        )
    for name in spec.schema:
        if problem := field_name_problem(name):
            raise InvalidQueryError(f"field name {name!r}: {problem}", field=name)
    index = spec.index
    if not 2 <= index.hnsw_m <= 256:
        raise InvalidQueryError(f"hnsw_m {index.hnsw_m}: expected 2 to 256", field="hnsw_m")
    if not 4 <= index.hnsw_ef_construct <= 4096:
        raise InvalidQueryError(
            f"hnsw_ef_construct {index.hnsw_ef_construct}: expected 4 to 4096", field="hnsw_ef_construct"
        )
    Quantization(index.quantization)
    for name, count in asdict(index.placement).items():
        if not 0 <= count <= MAX_NODES:
            raise InvalidQueryError(
                f"{name} {count}: expected 0 (the store's default) to {MAX_NODES}", field=name
            )


def check_item_id(item_id: str) -> None:
    """Raise `InvalidQueryError` unless `item_id` can name an item."""
    problem = item_id_problem(item_id) if isinstance(item_id, str) else "an item id must be a text"
    if problem:
        raise InvalidQueryError(f"item id {item_id!r}: {problem}", field="id")


def check_payload_size(data: Mapping[str, Any], *, item: str) -> None:
    """Raise `InvalidQueryError` for a payload that is larger than an item's may be."""
    size = len(json.dumps(data, ensure_ascii=False).encode())
    if size > MAX_PAYLOAD_BYTES:
        raise InvalidQueryError(
            f"item {item!r}: the payload has {size} bytes as JSON, at most {MAX_PAYLOAD_BYTES} are allowed",
            field="payload",
        )


def check_payload(payload: Mapping[str, Any], schema: Mapping[str, FieldType], *, item: str) -> None:
    """Raise `InvalidQueryError` that names item and field for a value that cannot be stored or found again.

    A field of the schema must have the schema's type, or be null, or a list of the type. Fields outside
    the schema are kept as they are and cannot be filtered.
    """
    for name, value in payload.items():
        problem = field_name_problem(name) if isinstance(name, str) else "a field name must be a text"
        if problem:
            raise InvalidQueryError(f"item {item!r}: payload field name {name!r}: {problem}", field=str(name))
        kind = schema.get(name)
        values = value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
        for element in values:
            if kind is not None and element is not None and not has_type(element, kind):
                raise InvalidQueryError(
                    f"item {item!r}: field {name!r} has type {kind}, got {element!r}; {_EXPECTED[kind]}",
                    field=name,
                )
        if kind is None and not _is_storable(value):
            raise InvalidQueryError(
                f"item {item!r}: field {name!r} holds {value!r}; expected JSON values with finite numbers "
                "and integers of 64 bits",
                field=name,
            )


_EXPECTED = {
    FieldType.KEYWORD: "expected a text",
    FieldType.INTEGER: "expected a whole number of 64 bits",
    FieldType.FLOAT: "expected a finite number",
    FieldType.BOOL: "expected true or false",
    FieldType.DATETIME: "expected RFC 3339 such as '2024-05-01T12:00:00Z' or '2024-05-01'",
    FieldType.GEO: "expected {'lat': degrees, 'lon': degrees}",
    FieldType.TEXT: "expected a text",
}


def has_type(value: object, kind: FieldType) -> bool:
    """Return whether a single, non-null value has the type `kind`."""
    match kind:
        case FieldType.KEYWORD | FieldType.TEXT:
            return isinstance(value, str) and is_text(value)
        case FieldType.INTEGER:
            return isinstance(value, int) and not isinstance(value, bool) and value in INT64
        case FieldType.FLOAT:
            return is_number(value)
        case FieldType.BOOL:
            return isinstance(value, bool)
        case FieldType.DATETIME:
            return isinstance(value, str) and _is_datetime(value)
        case FieldType.GEO:
            return _is_geo(value)


def is_number(value: object) -> bool:
    """Return whether `value` is a finite number; booleans are not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return value in INT64 if isinstance(value, int) else math.isfinite(value)


def _is_datetime(value: str) -> bool:
    if not _DATETIME.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_geo(value: object) -> bool:
    if not isinstance(value, Mapping) or set(value) != {"lat", "lon"}:
        return False
    lat, lon = value["lat"], value["lon"]
    return is_number(lat) and is_number(lon) and abs(lat) <= 90 and abs(lon) <= 180


def _is_storable(value: object, depth: int = 0) -> bool:
    if depth > 32:
        return False
    if value is None or isinstance(value, bool) or is_number(value):
        return True
    if isinstance(value, str):
        return is_text(value)
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and is_text(k) and _is_storable(v, depth + 1) for k, v in value.items())
    return isinstance(value, (list, tuple)) and all(_is_storable(v, depth + 1) for v in value)


_MATCHABLE = (FieldType.KEYWORD, FieldType.INTEGER, FieldType.BOOL)
_ORDERED = (FieldType.INTEGER, FieldType.FLOAT, FieldType.DATETIME)


def check_filter(where: Filter | None, schema: Mapping[str, FieldType]) -> None:
    """Raise `InvalidQueryError` naming the field for an unknown field, a wrong type or a senseless bound."""
    if where is not None:
        _check_clauses(where, schema, depth=1)


def check_facet_field(field: str, schema: Mapping[str, FieldType]) -> FieldType:
    """The type of a field that can be counted by value, or `InvalidQueryError`."""
    return _typed(field, schema, _MATCHABLE, "counted by value")


def check_group_field(field: str, schema: Mapping[str, FieldType]) -> FieldType:
    """The type of a field that results can be grouped by, or `InvalidQueryError`."""
    return _typed(field, schema, (FieldType.KEYWORD, FieldType.INTEGER), "grouped by")


def _check_clauses(where: Filter, schema: Mapping[str, FieldType], depth: int) -> None:
    if depth > MAX_FILTER_DEPTH:
        raise InvalidQueryError(f"the filter nests deeper than {MAX_FILTER_DEPTH} levels")
    for condition in (*where.must, *where.should, *where.must_not):
        if isinstance(condition, Filter):
            _check_clauses(condition, schema, depth + 1)
        else:
            _check_condition(condition, schema)


def _check_condition(condition: Condition, schema: Mapping[str, FieldType]) -> None:
    match condition:
        case MatchAny(field, values):
            kind = _typed(field, schema, _MATCHABLE, "matched by value")
            for value in values:
                if not has_type(value, kind):
                    raise _wrong_value(field, kind, value)
        case Range():
            _check_range(condition, schema)
        case Exists(field):
            _typed(field, schema, tuple(FieldType), "tested")
        case HasId(ids):
            for item_id in ids:
                check_item_id(item_id)
        case GeoRadius(field, latitude, longitude, radius_m):
            _typed(field, schema, (FieldType.GEO,), "searched by distance")
            if not (is_number(latitude) and abs(latitude) <= 90):
                raise InvalidQueryError(f"latitude {latitude}: expected -90 to 90 degrees", field=field)
            if not (is_number(longitude) and abs(longitude) <= 180):
                raise InvalidQueryError(f"longitude {longitude}: expected -180 to 180 degrees", field=field)
            if not (is_number(radius_m) and radius_m > 0):
                raise InvalidQueryError(
                    f"radius {radius_m}: expected a positive number of metres", field=field
                )
        case MatchText(field, text):
            _typed(field, schema, (FieldType.TEXT,), "searched by words")
            if not is_text(text) or not tokenize([text]):
                raise InvalidQueryError(f"text {text!r} for field {field!r} has no word in it", field=field)
        case _:
            raise InvalidQueryError(f"{condition!r} is no condition of a filter")


def _check_range(condition: Range, schema: Mapping[str, FieldType]) -> None:
    kind = _typed(condition.field, schema, _ORDERED, "compared with bounds")
    given = (condition.gt, condition.gte, condition.lt, condition.lte)
    bounds = [bound for bound in given if bound is not None]
    if not bounds:
        raise InvalidQueryError(
            f"range on field {condition.field!r}: give at least one bound", field=condition.field
        )
    for bound in bounds:
        if kind is FieldType.DATETIME and isinstance(bound, datetime):
            continue
        if kind is not FieldType.DATETIME and is_number(bound):
            continue
        raise _wrong_value(condition.field, kind, bound)


def _wrong_value(field: str, kind: FieldType, value: object) -> WrongFieldTypeError:
    return WrongFieldTypeError(f"field {field!r} has type {kind}, the filter gives {value!r}", field=field)


def _typed(
    field: str, schema: Mapping[str, FieldType], allowed: tuple[FieldType, ...], act: str
) -> FieldType:
    kind = schema.get(field)
    if kind is None:
        known = ", ".join(sorted(schema)) or "none"
        raise UnknownFieldError(f"unknown field {field!r}; the catalog's fields are: {known}", field=field)
    if kind not in allowed:
        expected = ", ".join(allowed)
        raise WrongFieldTypeError(
            f"field {field!r} has type {kind} and cannot be {act}; that takes one of: {expected}", field=field
        )
    return kind
