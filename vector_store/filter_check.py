"""Whether a filter fits a catalog's schema. Pure, and the same for every engine."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from vector_store.catalogs import FieldType
from vector_store.errors import InvalidQuery, UnknownField, WrongFieldType
from vector_store.filters import Condition, Exists, Filter, GeoRadius, HasId, MatchAny, MatchText, Range
from vector_store.schema_check import fits, is_number, is_text
from vector_store.words import words_of

MAX_DEPTH = 16

_MATCHABLE = (FieldType.KEYWORD, FieldType.INTEGER, FieldType.BOOL)
_ORDERED = (FieldType.INTEGER, FieldType.FLOAT, FieldType.DATETIME)


def check_filter(where: Filter | None, schema: Mapping[str, FieldType]) -> None:
    """Raise `InvalidQuery` naming the field for an unknown field, a wrong type or a senseless bound."""
    if where is not None:
        _check_clauses(where, schema, depth=1)


def check_facet_field(field: str, schema: Mapping[str, FieldType]) -> FieldType:
    """The type of a field that can be counted by value, or `InvalidQuery`."""
    return _typed(field, schema, _MATCHABLE, "counted by value")


def check_group_field(field: str, schema: Mapping[str, FieldType]) -> FieldType:
    """The type of a field that results can be grouped by, or `InvalidQuery`."""
    return _typed(field, schema, (FieldType.KEYWORD, FieldType.INTEGER), "grouped by")


def _check_clauses(where: Filter, schema: Mapping[str, FieldType], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidQuery(f"the filter nests deeper than {MAX_DEPTH} levels")
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
                if not fits(value, kind):
                    raise _wrong_value(field, kind, value)
        case Range():
            _check_range(condition, schema)
        case Exists(field):
            _typed(field, schema, tuple(FieldType), "tested")
        case HasId(ids):
            for item_id in ids:
                if not isinstance(item_id, str) or not is_text(item_id):
                    raise InvalidQuery(f"item id {item_id!r} is not a text", field="id")
        case GeoRadius(field, latitude, longitude, radius_m):
            _typed(field, schema, (FieldType.GEO,), "searched by distance")
            if not (is_number(latitude) and abs(latitude) <= 90):
                raise InvalidQuery(f"latitude {latitude}: expected -90 to 90 degrees", field=field)
            if not (is_number(longitude) and abs(longitude) <= 180):
                raise InvalidQuery(f"longitude {longitude}: expected -180 to 180 degrees", field=field)
            if not (is_number(radius_m) and radius_m > 0):
                raise InvalidQuery(f"radius {radius_m}: expected a positive number of metres", field=field)
        case MatchText(field, text):
            _typed(field, schema, (FieldType.TEXT,), "searched by words")
            if not is_text(text) or not words_of([text]):
                raise InvalidQuery(f"text {text!r} for field {field!r} has no word in it", field=field)
        case _:
            raise InvalidQuery(f"{condition!r} is no condition of a filter")


def _check_range(condition: Range, schema: Mapping[str, FieldType]) -> None:
    kind = _typed(condition.field, schema, _ORDERED, "compared with bounds")
    given = (condition.gt, condition.gte, condition.lt, condition.lte)
    bounds = [bound for bound in given if bound is not None]
    if not bounds:
        raise InvalidQuery(
            f"range on field {condition.field!r}: give at least one bound", field=condition.field
        )
    for bound in bounds:
        if kind is FieldType.DATETIME and isinstance(bound, datetime):
            continue
        if kind is not FieldType.DATETIME and is_number(bound):
            continue
        raise _wrong_value(condition.field, kind, bound)


def _wrong_value(field: str, kind: FieldType, value: object) -> WrongFieldType:
    return WrongFieldType(f"field {field!r} has type {kind}, the filter gives {value!r}", field=field)


def _typed(
    field: str, schema: Mapping[str, FieldType], allowed: tuple[FieldType, ...], act: str
) -> FieldType:
    kind = schema.get(field)
    if kind is None:
        known = ", ".join(sorted(schema)) or "none"
        raise UnknownField(f"unknown field {field!r}; the catalog's fields are: {known}", field=field)
    if kind not in allowed:
        expected = ", ".join(allowed)
        raise WrongFieldType(
            f"field {field!r} has type {kind} and cannot be {act}; that takes one of: {expected}", field=field
        )
    return kind
