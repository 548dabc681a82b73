"""Payloads keep their values and types on the way through."""

from __future__ import annotations

import math

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from cir.common.v1 import payload_pb2 as pb
from search_service.convert import parse_payload, parse_value, payload_message, value_message
from service_runtime.errors import ServiceError
from vector_store.types import FieldType

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.fixed_dictionaries({"lat": st.floats(-90, 90), "lon": st.floats(-180, 180)})
)
names = st.text(st.characters(categories=("L", "N"), include_characters="_.- "), min_size=1, max_size=20)


@given(st.dictionaries(names, scalars | st.lists(scalars, max_size=4), max_size=6))
def test_payloads_come_back_as_they_were(payload: dict[str, object]) -> None:
    assert parse_payload(payload_message(payload, {}), field="payload") == payload  # type: ignore[arg-type]


def test_types_follow_the_schema() -> None:
    assert value_message(3, FieldType.FLOAT).float_value == 3.0
    moment = value_message("2026-01-02T03:04:05Z", FieldType.DATETIME)
    assert moment.datetime_value == Timestamp(seconds=1767323045)
    assert parse_value(moment, field="f") == "2026-01-02T03:04:05Z"
    assert value_message("soon", FieldType.DATETIME).string_value == "soon"
    assert value_message(2**70, FieldType.INTEGER).float_value == 2.0**70


@pytest.mark.parametrize(
    "value",
    [
        pb.Value(),
        pb.Value(float_value=math.nan),
        pb.Value(float_value=math.inf),
        pb.Value(geo_value=pb.GeoPoint(latitude=91)),
        pb.Value(geo_value=pb.GeoPoint(latitude=math.nan)),
        pb.Value(datetime_value=Timestamp(seconds=2**62)),
        pb.Value(list_value=pb.ListValue(values=[pb.Value(list_value=pb.ListValue())])),
    ],
)
def test_values_that_cannot_be_stored_are_refused(value: pb.Value) -> None:
    with pytest.raises(ServiceError, match=r"payload\.x"):
        parse_payload(pb.Payload(fields={"x": value}), field="payload")


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 129])
def test_field_names_that_cannot_be_stored_are_refused(name: str) -> None:
    with pytest.raises(ServiceError, match="field name"):
        parse_payload(pb.Payload(fields={name: pb.Value(bool_value=True)}), field="payload")
