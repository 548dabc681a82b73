"""Filters in the engine's terms. The filter is already checked against the schema."""

from __future__ import annotations

from datetime import datetime

import qdrant_edge as edge

from cir.datetimes import format_datetime
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

_Condition = edge.FieldCondition | edge.HasIdCondition | edge.IsEmptyCondition | edge.Filter


def edge_filter(where: Filter | None) -> edge.Filter | None:
    """The engine's filter, None where every point passes."""
    return _clauses(where) if where else None


def _clauses(where: Filter) -> edge.Filter:
    # An empty list of alternatives would let nothing pass, where the contract lets everything pass.
    return edge.Filter(
        must=[_condition(c) for c in where.must] or None,
        should=[_condition(c) for c in where.should] or None,
        must_not=[_condition(c) for c in where.must_not] or None,
    )


def _condition(condition: Condition) -> _Condition:
    match condition:
        case Filter():
            return _clauses(condition)
        case MatchAny(field, values):
            return _match_any(field, values)
        case Range(field):
            return edge.FieldCondition(data_path(field), range=_range(condition))
        case Exists(field):
            return edge.Filter(must_not=[edge.IsEmptyCondition(data_path(field))])
        case HasId(ids):
            return edge.HasIdCondition({point_id(item_id) for item_id in ids})
        case GeoRadius(field, latitude, longitude, radius_meters):
            circle = edge.GeoRadius(edge.GeoPoint(longitude, latitude), radius_meters)
            return edge.FieldCondition(data_path(field), geo_radius=circle)
        case MatchText(field, text):
            key = terms_path(field)
            terms = filter_terms(text)
            return edge.Filter(must=[edge.FieldCondition(key, match=edge.MatchValue(t)) for t in terms])


def _match_any(field: str, values: tuple[Scalar, ...]) -> edge.FieldCondition:
    bools = [bool_term(value) for value in values if isinstance(value, bool)]
    if bools:
        return edge.FieldCondition(terms_path(field), match=edge.MatchAny(bools))
    texts = [value for value in values if isinstance(value, str)]
    numbers = [value for value in values if isinstance(value, int)]
    return edge.FieldCondition(data_path(field), match=edge.MatchAny(numbers or texts))


def _range(bounds: Range) -> edge.RangeFloat | edge.RangeDateTime:
    sides = {"gt": bounds.gt, "gte": bounds.gte, "lt": bounds.lt, "lte": bounds.lte}
    moments = {name: format_datetime(b) for name, b in sides.items() if isinstance(b, datetime)}
    if moments:
        return edge.RangeDateTime(**moments)
    return edge.RangeFloat(**{name: float(b) for name, b in sides.items() if isinstance(b, (int, float))})
