"""Checks of specifications, payloads and filters against a schema: pure, the same for every engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from cir.datetimes import EXPECTED, format_datetime, in_utc, parse_datetime
from cir.fields import FieldType, PayloadValue, has_type, is_number
from cir.limits import (
    MAX_FILTER_DEPTH,
    field_name_problem,
    is_text,
    item_id_problem,
    location_problem,
    payload_problem,
)
from vector_store.errors import InvalidQueryError, UnknownFieldError, WrongFieldTypeError
from vector_store.filters import Condition, Exists, Filter, GeoRadius, HasId, MatchAny, MatchText, Range
from vector_store.types import Quantization, VersionSpec
from vector_store.words import filter_terms

MAX_DIMENSION = 65_536
MAX_NODES = 1024


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


def check_location(location: object, *, item: str) -> None:
    """Raise `InvalidQueryError` unless `location` can be the location of an item's image."""
    problem = location_problem(location) if isinstance(location, str) else "an image location is a text"
    if problem:
        raise InvalidQueryError(f"item {item!r}: {problem}", field="image")


def parse_payload(
    payload: Mapping[str, Any], schema: Mapping[str, FieldType], *, item: str
) -> dict[str, PayloadValue]:
    """Return a payload as it is stored: moments in UTC, any mappings and sequences as dicts and lists.

    A value is null, a bool, an integer of 64 bits, a finite float, a text, a place, or a list of these of one
    type without nulls. A field of the schema has the schema's type; fields outside the schema cannot be
    filtered. An integer in a float field is one that a float holds exactly.

    Raises:
        InvalidQueryError: it names item and field of a value that cannot be stored or found again, or the
            payload is too large.
    """
    check_payload(payload, schema, item=item)
    stored = canonical_payload(payload, schema)
    if problem := payload_problem(stored):
        raise InvalidQueryError(f"item {item!r}: {problem}", field="payload")
    return stored


def canonical_payload(
    payload: Mapping[str, PayloadValue], schema: Mapping[str, FieldType]
) -> dict[str, PayloadValue]:
    """Return a payload in the form in which it is stored; values that do not fit stay as they are."""
    return {name: _stored(value, schema.get(name)) for name, value in payload.items()}


def _stored(value: Any, kind: FieldType | None) -> Any:
    if isinstance(value, (list, tuple)):
        return [_stored(element, kind) for element in value]
    if isinstance(value, Mapping):
        return dict(value)
    if kind is FieldType.DATETIME and isinstance(value, str):
        try:
            return format_datetime(parse_datetime(value))
        except ValueError:
            return value
    return value


def check_payload(payload: Mapping[str, Any], schema: Mapping[str, FieldType], *, item: str) -> None:
    """Raise `InvalidQueryError` for a field name or a value that `parse_payload` refuses."""
    for name, value in payload.items():
        problem = field_name_problem(name) if isinstance(name, str) else "a field name must be a text"
        if problem:
            raise InvalidQueryError(f"item {item!r}: payload field name {name!r}: {problem}", field=str(name))
        kind = schema.get(name)
        if value is None:
            continue
        elements = value if isinstance(value, (list, tuple)) else (value,)
        for element in elements:
            if kind is not None and not has_type(element, kind):
                raise InvalidQueryError(
                    f"item {item!r}: field {name!r} has type {kind}, got {_shown(element)}; "
                    f"{_EXPECTED[kind]}",
                    field=name,
                )
        kinds = {_kind(element) for element in elements} if kind is None else set()
        if None in kinds or len(kinds) > 1:
            raise InvalidQueryError(
                f"item {item!r}: field {name!r} holds {_shown(value)}; expected a text, a finite number, an "
                "integer of 64 bits, a bool, a place {'lat': degrees, 'lon': degrees}, or a list of one of "
                "these without nulls",
                field=name,
            )


def _kind(element: object) -> FieldType | None:
    """Return the type of a single value outside the schema; None for what is no payload value."""
    kinds = (FieldType.BOOL, FieldType.INTEGER, FieldType.FLOAT, FieldType.TEXT, FieldType.GEO)
    return next((kind for kind in kinds if has_type(element, kind)), None)


def _shown(value: object) -> str:
    """Return a value for a message: cut, and without what no message could hold."""
    text = ascii(value) if isinstance(value, str) and not is_text(value) else repr(value)
    return f"{text[:_SHOWN]}…" if len(text) > _SHOWN else text


_SHOWN = 200


_EXPECTED = {
    FieldType.KEYWORD: "expected a text",
    FieldType.INTEGER: "expected a whole number of 64 bits",
    FieldType.FLOAT: "expected a finite number, an integer only where a float holds it exactly",
    FieldType.BOOL: "expected true or false",
    FieldType.DATETIME: f"expected {EXPECTED}",
    FieldType.GEO: "expected {'lat': degrees, 'lon': degrees}",
    FieldType.TEXT: "expected a text",
}


#: Dates and moments that one condition matches; engines compare with each.
MAX_MOMENTS = 64
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
            kind = _filtered(field, schema, (*_MATCHABLE, FieldType.DATETIME), "matched by value")
            if kind is FieldType.DATETIME and len(values) > MAX_MOMENTS:
                raise InvalidQueryError(
                    f"field {field!r} has type {kind} and is matched by at most {MAX_MOMENTS} values, the "
                    f"filter gives {len(values)}; use ranges",
                    field=field,
                )
            for value in values:
                if not has_type(value, kind):
                    raise _wrong_value(field, kind, value)
        case Range():
            _check_range(condition, schema)
        case Exists(field):
            _filtered(field, schema, tuple(FieldType), "tested")
        case HasId(ids):
            for item_id in ids:
                check_item_id(item_id)
        case GeoRadius(field, latitude, longitude, radius_meters):
            _filtered(field, schema, (FieldType.GEO,), "searched by distance")
            if not (is_number(latitude) and abs(latitude) <= 90):
                raise InvalidQueryError(f"latitude {latitude}: expected -90 to 90 degrees", field=field)
            if not (is_number(longitude) and abs(longitude) <= 180):
                raise InvalidQueryError(f"longitude {longitude}: expected -180 to 180 degrees", field=field)
            if not (is_number(radius_meters) and radius_meters > 0):
                raise InvalidQueryError(
                    f"radius {radius_meters}: expected a positive number of metres", field=field
                )
        case MatchText(field, text):
            _filtered(field, schema, (FieldType.TEXT,), "searched by words")
            if not is_text(text) or not filter_terms(text):
                raise InvalidQueryError(f"text {text!r} for field {field!r} has no word in it", field=field)
        case _:
            raise InvalidQueryError(f"{condition!r} is no condition of a filter")


def _check_range(condition: Range, schema: Mapping[str, FieldType]) -> None:
    kind = _filtered(condition.field, schema, _ORDERED, "compared with bounds")
    given = (condition.gt, condition.gte, condition.lt, condition.lte)
    bounds = [bound for bound in given if bound is not None]
    if not bounds:
        raise InvalidQueryError(
            f"range on field {condition.field!r}: give at least one bound", field=condition.field
        )
    for bound in bounds:
        if kind is FieldType.DATETIME and isinstance(bound, datetime):
            try:
                in_utc(bound)
            except ValueError as error:
                raise InvalidQueryError(
                    f"range on field {condition.field!r}: {error}", field=condition.field
                ) from None
            continue
        if kind is not FieldType.DATETIME and is_number(bound):
            continue
        raise _wrong_value(condition.field, kind, bound)


def _wrong_value(field: str, kind: FieldType, value: object) -> WrongFieldTypeError:
    message = f"field {field!r} has type {kind}, the filter gives {_shown(value)}; {_EXPECTED[kind]}"
    return WrongFieldTypeError(message, field=field)


# The condition that a field of each type is filtered by, where several are the first to think of.
_FILTERED_BY = {
    FieldType.KEYWORD: "its values",
    FieldType.INTEGER: "its values or a range",
    FieldType.FLOAT: "a range (gt, gte, lt, lte; both gte and lte for one number)",
    FieldType.BOOL: "true or false",
    FieldType.DATETIME: "its values or a range",
    FieldType.GEO: "a radius around a place",
    FieldType.TEXT: "words",
}


def _filtered(
    field: str, schema: Mapping[str, FieldType], allowed: tuple[FieldType, ...], act: str
) -> FieldType:
    """Return the type of a field that a condition is on, as `_typed` does; errors say what fits it."""
    return _typed(field, schema, allowed, act, _FILTERED_BY)


def _typed(
    field: str,
    schema: Mapping[str, FieldType],
    allowed: tuple[FieldType, ...],
    act: str,
    filtered_by: Mapping[FieldType, str] | None = None,
) -> FieldType:
    kind = schema.get(field)
    if kind is None:
        known = ", ".join(sorted(schema)) or "none"
        raise UnknownFieldError(f"unknown field {field!r}; the catalog's fields are: {known}", field=field)
    if kind not in allowed:
        expected = ", ".join(allowed)
        fitting = f"; a field of type {kind} is filtered by {filtered_by[kind]}" if filtered_by else ""
        raise WrongFieldTypeError(
            f"field {field!r} has type {kind} and cannot be {act}; that takes one of: {expected}{fitting}",
            field=field,
        )
    return kind
