"""Filters in the client's terms. The filter is already checked against the schema."""

from __future__ import annotations

from datetime import datetime

from qdrant_client import models

from cir.datetimes import in_utc
from vector_store.filters import (
    Condition,
    Exists,
    Filter,
    GeoRadius,
    HasId,
    MatchAny,
    MatchText,
    Range,
    Scalar,
)
from vector_store.payload_index import bool_term, data_path, terms_path
from vector_store.types import point_id
from vector_store.words import filter_terms


def qdrant_filter(where: Filter | None) -> models.Filter | None:
    """The client's filter, None where every point passes."""
    return _clauses(where) if where else None


def _clauses(where: Filter) -> models.Filter:
    # An empty list of alternatives would let nothing pass, where the contract lets everything pass.
    return models.Filter(
        must=[_condition(c) for c in where.must] or None,
        should=[_condition(c) for c in where.should] or None,
        must_not=[_condition(c) for c in where.must_not] or None,
    )


def _condition(condition: Condition) -> models.Condition:
    match condition:
        case Filter():
            return _clauses(condition)
        case MatchAny(field, values):
            return _match_any(field, values)
        case Range(field):
            return models.FieldCondition(key=data_path(field), range=_range(condition))
        case Exists(field):
            empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=data_path(field)))
            return models.Filter(must_not=[empty])
        case HasId(ids):
            return models.HasIdCondition(has_id=[point_id(item_id) for item_id in ids])
        case GeoRadius(field, latitude, longitude, radius_meters):
            circle = models.GeoRadius(
                center=models.GeoPoint(lat=latitude, lon=longitude), radius=radius_meters
            )
            return models.FieldCondition(key=data_path(field), geo_radius=circle)
        case MatchText(field, text):
            return models.Filter(must=[_equals(terms_path(field), term) for term in filter_terms(text)])


def _match_any(field: str, values: tuple[Scalar, ...]) -> models.FieldCondition:
    bools = [bool_term(value) for value in values if isinstance(value, bool)]
    if bools:
        return models.FieldCondition(key=terms_path(field), match=models.MatchAny(any=bools))
    texts = [value for value in values if isinstance(value, str)]
    numbers = [value for value in values if isinstance(value, int)]
    return models.FieldCondition(key=data_path(field), match=models.MatchAny(any=numbers or texts))


def _equals(key: str, value: Scalar) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def _range(bounds: Range) -> models.Range | models.DatetimeRange:
    sides = {"gt": bounds.gt, "gte": bounds.gte, "lt": bounds.lt, "lte": bounds.lte}
    moments = {name: in_utc(b) for name, b in sides.items() if isinstance(b, datetime)}
    if moments:
        return models.DatetimeRange(**moments)
    return models.Range(**{name: float(b) for name, b in sides.items() if isinstance(b, (int, float))})
