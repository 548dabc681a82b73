"""Payload values between plain Python and the wire (protos/cir/common/v1/payload.proto).

None, bool, int, float, str, aware `datetime`, `GeoPoint`, and lists of one of these types.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from google.protobuf import struct_pb2, timestamp_pb2

from cir.common.v1 import payload_pb2 as pb
from cir.errors import InvalidArgument


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

_INT64 = range(-(2**63), 2**63)


def to_value(value: object, *, field: str) -> pb.Value:
    """Write a value.

    Raises:
        InvalidArgument: a value that has no form on the wire; it names `field`.
    """
    if isinstance(value, (list, tuple, np.ndarray)):
        values = [to_value(element, field=field) for element in value]
        if len({element.WhichOneof("kind") for element in values}) > 1:
            raise _invalid(field, "the values of a list must have one type")
        if any(element.WhichOneof("kind") in ("list_value", "null_value") for element in values):
            raise _invalid(field, "a list holds neither lists nor None")
        return pb.Value(list_value=pb.ListValue(values=values))
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return pb.Value(null_value=struct_pb2.NULL_VALUE)
    if isinstance(value, bool):
        return pb.Value(bool_value=value)
    if isinstance(value, int):
        if value not in _INT64:
            raise _invalid(field, f"{value} does not fit 64 bits")
        return pb.Value(integer_value=value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _invalid(field, f"{value} is not a finite number")
        return pb.Value(float_value=value)
    if isinstance(value, str):
        return pb.Value(string_value=value)
    if isinstance(value, datetime):
        return pb.Value(datetime_value=_timestamp(value, field))
    if isinstance(value, GeoPoint):
        return pb.Value(geo_value=value.message())
    raise _invalid(
        field,
        f"a {type(value).__name__} is no payload value; use None, bool, int, float, str, datetime, "
        "cir.GeoPoint, or a list of one of these",
    )


def from_value(value: pb.Value) -> Value:
    """Read a value. Datetimes come in UTC; a value of a kind that this client does not know reads as None."""
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        return [_from_scalar(element) for element in value.list_value.values]
    return None if kind is None or kind == "null_value" else _from_scalar(value)


def to_payload(payload: Mapping[str, object]) -> pb.Payload:
    """Write a payload: values by field name.

    Raises:
        InvalidArgument: a value that has no form on the wire.
    """
    return pb.Payload(fields={name: to_value(value, field=name) for name, value in payload.items()})


def from_payload(payload: pb.Payload) -> dict[str, Value]:
    """Read a payload, fields by name in alphabetical order."""
    return {name: from_value(payload.fields[name]) for name in sorted(payload.fields)}


def _from_scalar(value: pb.Value) -> Scalar:
    kind = value.WhichOneof("kind")
    if kind == "datetime_value":
        return value.datetime_value.ToDatetime(tzinfo=UTC)
    if kind == "geo_value":
        return GeoPoint(value.geo_value.latitude, value.geo_value.longitude)
    scalar: Scalar = getattr(value, kind) if kind else ""
    return scalar


def _timestamp(value: datetime, field: str) -> timestamp_pb2.Timestamp:
    if value.tzinfo is None:
        raise _invalid(field, "a datetime needs a time zone, for example datetime(..., tzinfo=UTC)")
    timestamp = timestamp_pb2.Timestamp()
    timestamp.FromDatetime(value)
    return timestamp


def _invalid(field: str, message: str) -> InvalidArgument:
    return InvalidArgument(f"{field}: {message}", reason="FIELD_INVALID", field=field)
