"""Filters over item payloads, as classes and in short as a dict (protos/cir/search/v1/filter.proto).

The short form names fields; all of them must hold:

    {"colour": "red"}                     equal
    {"added": "2025-06-01"}               on that day in UTC: a date or its text; a datetime is a moment
    {"size": ["s", "m"]}                  equal to one of them
    {"price": {"gte": 5, "lt": 20}}       in a range: gt, gte, lt, lte
    {"added": {"gte": "2025-06-01"}}      in a range of time: a date, a datetime, or its text
    {"colour": {"not": ["red", "pink"]}}  equal to none of them
    {"brand": {"exists": True}}           has a value (False: has none)
    {"title": {"words": "summer dress"}}  has all the words, in a text field
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import cast

from cir.common.v1 import payload_pb2
from cir.datetimes import parse_datetime
from cir.errors import InvalidArgument
from cir.payload import GeoPoint, texts, to_value
from cir.search.v1 import filter_pb2 as pb

_BOUNDS = ("gt", "gte", "lt", "lte")


@dataclass(frozen=True, slots=True)
class MatchAny:
    """The field equals one of the values (keyword, integer, bool or datetime fields).

    Of a datetime field a date, or its text, is the whole day in UTC, and all else the moment that it names.
    """

    field: str
    values: Sequence[str | int | bool | date]


@dataclass(frozen=True, slots=True)
class Range:
    """The field lies within bounds (integer, float or datetime fields); None leaves a side open.

    A date is midnight in UTC, a datetime without a time zone is in UTC, a text names a moment (RFC 3339).
    """

    field: str
    gt: float | date | str | None = None
    gte: float | date | str | None = None
    lt: float | date | str | None = None
    lte: float | date | str | None = None


@dataclass(frozen=True, slots=True)
class Exists:
    """The field has a value."""

    field: str


@dataclass(frozen=True, slots=True)
class HasId:
    """The item is one of these."""

    item_ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class GeoRadius:
    """The geo field lies within `radius_meters` of the center."""

    field: str
    center: GeoPoint
    radius_meters: float


@dataclass(frozen=True, slots=True)
class MatchText:
    """The text field has every word of `text`, in any order.

    Of scripts without spaces between words, what `text` has is found wherever it stands.
    """

    field: str
    text: str


@dataclass(frozen=True, slots=True)
class Filter:
    """Every `must` holds, no `must_not` does and, where there are any, at least one `should`. May nest."""

    must: Sequence[Condition] = ()
    should: Sequence[Condition] = ()
    must_not: Sequence[Condition] = ()


Condition = MatchAny | Range | Exists | HasId | GeoRadius | MatchText | Filter
Where = Condition | Mapping[str, object] | None


def to_filter(where: Where) -> pb.Filter:
    """Write a filter in either form; None lets every item pass.

    Raises:
        InvalidArgument: it is no filter.
    """
    try:
        if where is None:
            return pb.Filter()
        if isinstance(where, Filter):
            return _filter(where)
        if isinstance(where, Mapping):
            return _filter(from_dict(where))
        return pb.Filter(must=[_condition(where)])
    except (TypeError, AttributeError, OverflowError) as error:
        # What a message of the contract does not take: a field that is no text, a number that is none.
        raise InvalidArgument(
            f"the filter has a part of another type than it takes ({error})",
            reason="FIELD_INVALID",
            field="filter",
        ) from error


def from_dict(where: Mapping[str, object]) -> Filter:
    """The short form as classes.

    Raises:
        InvalidArgument: an operator that does not exist.
    """
    must: list[Condition] = []
    must_not: list[Condition] = []
    for field, wanted in where.items():
        if not isinstance(wanted, Mapping):
            must.append(_equal(field, wanted))
            continue
        bounds = {name: bound for name, bound in wanted.items() if name in _BOUNDS}
        if bounds:
            must.append(Range(field, **bounds))
        for name, value in wanted.items():
            if name == "not":
                must_not.append(_equal(field, value))
            elif name == "exists":
                (must if value else must_not).append(Exists(field))
            elif name == "words":
                must.append(MatchText(field, str(value)))
            elif name not in _BOUNDS:
                raise InvalidArgument(
                    f"filter on {field}: there is no operator {name!r}; use one of "
                    f"{', '.join(_BOUNDS)}, not, exists, words",
                    reason="FIELD_INVALID",
                    field="filter",
                )
    return Filter(must=must, must_not=must_not)


def _equal(field: str, wanted: object) -> Condition:
    """Equality: by match where values are matched, by a closed range for floats."""
    if isinstance(wanted, float):
        return Range(field, gte=wanted, lte=wanted)
    if isinstance(wanted, (set, frozenset)):
        wanted = sorted(wanted)
    if isinstance(wanted, (list, tuple)) and any(isinstance(value, float) for value in wanted):
        return Filter(should=[Range(field, gte=value, lte=value) for value in wanted])
    return MatchAny(field, wanted if isinstance(wanted, (list, tuple)) else (cast("str", wanted),))


def _filter(where: Filter) -> pb.Filter:
    return pb.Filter(
        must=[_condition(condition) for condition in where.must],
        should=[_condition(condition) for condition in where.should],
        must_not=[_condition(condition) for condition in where.must_not],
    )


def _condition(condition: Condition) -> pb.Condition:
    match condition:
        case MatchAny(field, values):
            # A text or number that stands alone is one value, not its letters.
            listed = [values] if isinstance(values, str | int | date) else values
            wanted = [to_value(_day(value), field=field) for value in listed]
            return pb.Condition(match_any=pb.MatchAny(field=field, values=wanted))
        case Range(field):
            bounds = {name: getattr(condition, name) for name in _BOUNDS}
            given = {name: _bound(bound, field) for name, bound in bounds.items() if bound is not None}
            return pb.Condition(range=pb.Range(field=field, **given))
        case Exists(field):
            return pb.Condition(exists=pb.Exists(field=field))
        case HasId(item_ids):
            return pb.Condition(has_id=pb.HasId(item_ids=texts(item_ids, field="filter")))
        case GeoRadius(field, center, radius_meters):
            circle = pb.GeoRadius(field=field, center=center.message(), radius_meters=radius_meters)
            return pb.Condition(geo_radius=circle)
        case MatchText(field, text):
            return pb.Condition(match_text=pb.MatchText(field=field, text=text))
        case Filter():
            return pb.Condition(filter=_filter(condition))
    raise InvalidArgument(
        f"a {type(condition).__name__} is no filter condition; use those of cir.filters",
        reason="FIELD_INVALID",
        field="filter",
    )


def _day(value: object) -> object:
    """Return a date as its text, which is the whole day; a value of its own type would be midnight."""
    return value.isoformat() if isinstance(value, date) and not isinstance(value, datetime) else value


def _bound(bound: object, field: str) -> payload_pb2.Value:
    """A bound as it is sent; texts have no order, so a text is the moment that it names."""
    value = to_value(bound, field=field)
    if value.WhichOneof("kind") in ("integer_value", "float_value", "datetime_value"):
        return value
    problem = f"{bound!r:.100} is none"
    if value.WhichOneof("kind") == "string_value":
        try:
            return to_value(parse_datetime(value.string_value), field=field)
        except ValueError as error:
            problem = str(error)
    raise InvalidArgument(
        f'filter on {field}: a bound is a number ({{"lt": 50}}), a date or datetime of Python, or its text '
        f'({{"gte": "2025-06-01"}}); {problem}',
        reason="FIELD_INVALID",
        field=field,
    )
