"""Filters, parsed from the wire to the store's own. Pure; whether they fit the schema is checked later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypeVar

from cir.common.v1 import errors_pb2 as errors
from cir.common.v1 import payload_pb2
from cir.limits import MAX_FILTER_DEPTH, MAX_FILTER_TEXT_CHARACTERS
from cir.search.v1 import filter_pb2 as pb
from search_service.convert import parse_datetime, parse_geo_point, parse_value
from service_runtime.errors import ServiceError
from vector_store.filters import Condition, Exists, Filter, GeoRadius, HasId, MatchAny, MatchText, Range

MAX_VALUES = 1000

_T = TypeVar("_T")


def parse_filter(message: pb.Filter, *, max_conditions: int, field: str = "filter") -> Filter:
    """Parse a filter; an empty one lets every item pass.

    Raises:
        ServiceError: It names the condition at fault.
    """
    return _FilterParser(max_conditions).filter(message, field, 1)


class _FilterParser:
    """Parser of one filter, which counts its conditions."""

    def __init__(self, max_conditions: int) -> None:
        self._limit = max_conditions
        self._count = 0

    def filter(self, message: pb.Filter, field: str, depth: int) -> Filter:
        if depth > MAX_FILTER_DEPTH:
            raise ServiceError(
                errors.OUT_OF_RANGE, f"{field}: filters nest at most {MAX_FILTER_DEPTH} deep", field=field
            )
        return Filter(
            must=self._conditions(message.must, f"{field}.must", depth),
            should=self._conditions(message.should, f"{field}.should", depth),
            must_not=self._conditions(message.must_not, f"{field}.must_not", depth),
        )

    def _conditions(self, messages: Iterable[pb.Condition], field: str, depth: int) -> tuple[Condition, ...]:
        return tuple(
            self._condition(message, f"{field}[{index}]", depth) for index, message in enumerate(messages)
        )

    def _condition(self, message: pb.Condition, field: str, depth: int) -> Condition:
        self._count += 1
        if self._count > self._limit:
            raise ServiceError(
                errors.OUT_OF_RANGE, f"{field}: a filter has at most {self._limit} conditions", field=field
            )
        kind = message.WhichOneof("kind")
        place = f"{field}.{kind}"
        match kind:
            case "match_any":
                return _match_any(message.match_any, place)
            case "range":
                return _range(message.range, place)
            case "exists":
                return Exists(_named(message.exists.field, place))
            case "has_id":
                return HasId(_some(message.has_id.item_ids, f"{place}.item_ids"))
            case "geo_radius":
                return _geo_radius(message.geo_radius, place)
            case "match_text":
                words = message.match_text
                return MatchText(_named(words.field, place), _words(words.text, place))
            case "filter":
                return self.filter(message.filter, place, depth + 1)
        raise _required(field, "the condition is empty; set one of its kinds")


def _match_any(message: pb.MatchAny, field: str) -> MatchAny:
    name = _named(message.field, field)
    messages = _some(message.values, f"{field}.values")
    values = tuple(parse_value(value, field=f"{field}.values[{i}]") for i, value in enumerate(messages))
    for value in values:
        if not isinstance(value, (str, int, bool)):
            raise ServiceError(
                errors.WRONG_FIELD_TYPE,
                f"{field}: field {name!r} is matched by strings, integers or bools; use a range for floats",
                field=f"{field}.values",
            )
    return MatchAny(name, values)


def _range(message: pb.Range, field: str) -> Range:
    name = _named(message.field, field)
    bounds = {
        side: _bound(getattr(message, side), f"{field}.{side}")
        for side in ("gt", "gte", "lt", "lte")
        if message.HasField(side)
    }
    if not bounds:
        raise _required(field, "a range has at least one of gt, gte, lt and lte")
    if len({isinstance(bound, datetime) for bound in bounds.values()}) > 1:
        raise ServiceError(
            errors.WRONG_FIELD_TYPE, f"{field}: bounds are all numbers or all timestamps", field=field
        )
    return Range(name, **bounds)


def _bound(value: payload_pb2.Value, field: str) -> float | datetime:
    kind = value.WhichOneof("kind")
    if kind == "datetime_value":
        return parse_datetime(value, field=field)
    if kind not in ("integer_value", "float_value"):
        raise ServiceError(
            errors.WRONG_FIELD_TYPE,
            f"{field}: a bound is an integer, a float or a timestamp; a date is given as datetime_value, in "
            'JSON as {"datetime": "2024-05-01T12:00:00Z"}, not as a text',
            field=field,
        )
    number: float = parse_value(value, field=field)
    return number


def _geo_radius(message: pb.GeoRadius, field: str) -> GeoRadius:
    center = parse_geo_point(message.center, field=f"{field}.center")
    if not 0 < message.radius_meters < 1e8:
        raise ServiceError(
            errors.OUT_OF_RANGE,
            f"{field}.radius_meters is {message.radius_meters:g}; it is greater than 0 and below 1e8 metres",
            field=f"{field}.radius_meters",
        )
    return GeoRadius(_named(message.field, field), center["lat"], center["lon"], message.radius_meters)


def _named(name: str, field: str) -> str:
    if not name:
        raise _required(f"{field}.field", "name the payload field")
    return name


def _words(text: str, field: str) -> str:
    # Before anything reads it: what follows normalises it.
    if len(text) > MAX_FILTER_TEXT_CHARACTERS:
        raise ServiceError(
            errors.TEXT_TOO_LONG,
            f"{field}.text has {len(text)} characters; at most {MAX_FILTER_TEXT_CHARACTERS} are taken",
            field=f"{field}.text",
        )
    if not text.strip():
        raise _required(f"{field}.text", "give one or more words")
    return text


def _some(values: Sequence[_T], field: str) -> tuple[_T, ...]:
    if not values:
        raise _required(field, "give at least one value")
    if len(values) > MAX_VALUES:
        raise ServiceError(errors.OUT_OF_RANGE, f"{field} has at most {MAX_VALUES} values", field=field)
    return tuple(values)


def _required(field: str, expected: str) -> ServiceError:
    return ServiceError(errors.FIELD_REQUIRED, f"{field}: {expected}", field=field)
