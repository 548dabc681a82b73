"""Payload values between plain Python and the wire (protos/cir/common/v1/payload.proto).

None, bool, int, float, str, `datetime` (without a time zone it is in UTC), `date` (midnight in UTC),
`GeoPoint`, and lists of one of these types without None. A list of floats may be written with ints among
them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

import numpy as np
from google.protobuf import struct_pb2, timestamp_pb2

from cir.common.v1 import payload_pb2 as pb
from cir.datetimes import in_utc
from cir.errors import InvalidArgument
from cir.fields import EXACT_IN_FLOAT, INT64
from cir.limits import field_name_problem, is_text


def texts(values: Sequence[str], *, field: str) -> Sequence[str]:
    """Return texts as a request lists them; one that stands alone is one text, not its letters.

    `field` names the part of the request in an error.

    Raises:
        InvalidArgument: something else than texts.
    """
    if isinstance(values, str):
        return [values]
    listed = list(values) if isinstance(values, Iterable) else [values]
    if not isinstance(values, Iterable) or not all(isinstance(each, str) for each in listed):
        raise InvalidArgument(
            f"{field} takes texts, not {str(values)[:100]!r}", reason="FIELD_INVALID", field=field
        )
    return listed


@dataclass(frozen=True, slots=True)
class GeoPoint:
    """A place in degrees (WGS 84): latitude -90 to 90, longitude -180 to 180."""

    latitude: float
    longitude: float

    def message(self) -> pb.GeoPoint:
        """The point as it is sent."""
        return pb.GeoPoint(latitude=self.latitude, longitude=self.longitude)


Scalar = bool | int | float | str | datetime | GeoPoint
Value = Scalar | Sequence[Scalar] | None


def to_value(value: object, *, field: str) -> pb.Value:
    """Write a value.

    Raises:
        InvalidArgument: a value that has no form on the wire; it names `field`.
    """
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim):
        elements = list(value)
        if any(isinstance(element, (float, np.floating)) for element in elements):
            elements = [_as_float(element) for element in elements]
        values = [to_value(element, field=field) for element in elements]
        if len({element.WhichOneof("kind") for element in values}) > 1:
            raise invalid(field, "the values of a list must have one type")
        if any(element.WhichOneof("kind") in ("list_value", "null_value") for element in values):
            raise invalid(field, "a list holds neither lists nor None")
        return pb.Value(list_value=pb.ListValue(values=values))
    if isinstance(value, (np.generic, np.ndarray)) and value.dtype.kind not in "mM":
        value = value.item()
    if value is None:
        return pb.Value(null_value=struct_pb2.NULL_VALUE)
    if isinstance(value, bool):
        return pb.Value(bool_value=value)
    if isinstance(value, int):
        if value not in INT64:
            raise invalid(field, f"{value} does not fit 64 bits")
        return pb.Value(integer_value=value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise invalid(field, f"{value} is not a finite number")
        return pb.Value(float_value=value)
    if isinstance(value, str):
        if not is_text(value):
            raise invalid(field, f"{value!a:.200} is no valid Unicode text")
        return pb.Value(string_value=value)
    if isinstance(value, datetime):
        return pb.Value(datetime_value=_timestamp(value, field))
    if isinstance(value, date):
        return pb.Value(datetime_value=_timestamp(datetime.combine(value, time()), field))
    if isinstance(value, GeoPoint):
        return pb.Value(geo_value=value.message())
    raise invalid(
        field,
        f"a {type(value).__name__} is no payload value; use None, bool, int, float, str, date, datetime, "
        "cir.GeoPoint, or a list of one of these",
    )


def from_value(value: pb.Value) -> Value:
    """Read a value. Datetimes come in UTC.

    A value that has no form in Python (of a kind that this client does not know, or a moment outside the
    years 1 to 9999) reads as None, and is left out of a list.
    """
    if value.WhichOneof("kind") == "list_value":
        elements = [_from_scalar(element) for element in value.list_value.values]
        return [element for element in elements if element is not None]
    return _from_scalar(value)


def to_payload(payload: Mapping[str, object]) -> pb.Payload:
    """Write a payload: values by field name.

    Raises:
        InvalidArgument: a name that no field can have, or a value that has no form on the wire.
    """
    for name in payload:
        problem = field_name_problem(name) if isinstance(name, str) else "a field name must be a text"
        if problem:
            raise invalid(f"{name!a:.200}", problem)
    return pb.Payload(fields={name: to_value(value, field=name) for name, value in payload.items()})


def from_payload(payload: pb.Payload) -> dict[str, Value]:
    """Read a payload, fields by name in alphabetical order."""
    return {name: from_value(payload.fields[name]) for name in sorted(payload.fields)}


def _from_scalar(value: pb.Value) -> Scalar | None:
    match value.WhichOneof("kind"):
        case "datetime_value":
            try:
                return value.datetime_value.ToDatetime(tzinfo=UTC)
            except (ValueError, OverflowError):
                return None
        case "geo_value":
            return GeoPoint(value.geo_value.latitude, value.geo_value.longitude)
        case "string_value" | "integer_value" | "float_value" | "bool_value" as kind:
            scalar: Scalar = getattr(value, kind)
            return scalar
    return None


def _as_float(element: object) -> object:
    """Return an int among floats as a float, where that is exact; anything else as it is."""
    if isinstance(element, (int, np.integer)) and not isinstance(element, bool):
        whole = int(element)
        return float(whole) if abs(whole) <= EXACT_IN_FLOAT else element
    return element


def _timestamp(value: datetime, field: str) -> timestamp_pb2.Timestamp:
    timestamp = timestamp_pb2.Timestamp()
    try:
        timestamp.FromDatetime(in_utc(value))
    except (ValueError, OverflowError) as error:
        raise invalid(field, str(error)) from error
    return timestamp


def invalid(field: str, message: str) -> InvalidArgument:
    """Return the refusal of a value, by the field that it stands in."""
    return InvalidArgument(f"{field}: {message}", reason="FIELD_INVALID", field=field)
