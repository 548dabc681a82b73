"""Payloads keep their values and types on the way through."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import example, given
from hypothesis import strategies as st

from cir.common.v1 import payload_pb2 as pb
from cir.fields import FieldType
from cir.models import Item as ReadItem
from cir.payload import GeoPoint
from cir.search.v1 import catalog_pb2
from search_service.convert import item_message, parse_payload, parse_value, payload_message, value_message
from service_runtime.errors import ServiceError
from vector_store.types import Item, VersionSpec

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
    | st.fixed_dictionaries({"lat": st.floats(-90, 90), "lon": st.floats(-180, 180)})
)
lists = st.sampled_from([st.booleans(), st.integers(-(2**63), 2**63 - 1), st.text()]).flatmap(
    lambda elements: st.lists(elements, max_size=4)
)
names = st.text(st.characters(categories=("L", "N"), include_characters="_.- "), min_size=1, max_size=20)


@given(st.dictionaries(names, scalars | lists, max_size=6))
def test_payloads_come_back_as_they_were(payload: dict[str, object]) -> None:
    assert parse_payload(payload_message(payload, {}), field="payload") == payload  # type: ignore[arg-type]


def test_types_follow_the_schema() -> None:
    assert value_message(3, FieldType.FLOAT).float_value == 3.0
    moment = value_message("2026-01-02T03:04:05Z", FieldType.DATETIME)
    assert moment.datetime_value == Timestamp(seconds=1767323045)
    assert parse_value(moment, field="f") == "2026-01-02T03:04:05Z"
    assert value_message("soon", FieldType.DATETIME).string_value == "soon"
    assert value_message(2**70, FieldType.INTEGER).string_value == str(2**70)


anything: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from(["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "2026-02-30", 10**400]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["lat", "lon", "x", "\udce9"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.text(st.characters(), max_size=9), anything, st.none() | st.sampled_from(FieldType))
def test_whatever_is_stored_can_be_sent_and_read(name: str, stored: Any, kind: FieldType | None) -> None:
    schema = {} if kind is None else {name: kind}
    item = Item("a", {name: stored}, "\udce9.jpg", 1.0)
    spec = VersionSpec(2, "model", schema)
    sent = catalog_pb2.Item.FromString(item_message(item, spec).SerializeToString())
    ((_, value),) = ReadItem.read(sent).payload.items()
    elements = value if isinstance(value, list) else [value]
    assert all(isinstance(each, (str, int, float, bool, datetime, GeoPoint, type(None))) for each in elements)


def _turned_round(value: Any) -> Any:
    """Return a value with the names of each object in the opposite order."""
    if isinstance(value, dict):
        return {name: _turned_round(value[name]) for name in reversed(value)}
    return [_turned_round(each) for each in value] if isinstance(value, list) else value


@given(anything, st.none() | st.sampled_from(FieldType))
@example({"lat": "x", "lon": {"x": 1, "lat": 2}}, None)
def test_names_of_objects_have_no_order(stored: Any, kind: FieldType | None) -> None:
    one, other = value_message(stored, kind), value_message(_turned_round(stored), kind)
    assert one.SerializeToString() == other.SerializeToString()


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
        pb.Value(list_value=pb.ListValue(values=[pb.Value(null_value=0)])),  # type: ignore[arg-type]
        pb.Value(list_value=pb.ListValue(values=[pb.Value(bool_value=True), pb.Value(integer_value=1)])),
    ],
)
def test_values_that_cannot_be_stored_are_refused(value: pb.Value) -> None:
    with pytest.raises(ServiceError, match=r"payload\.x"):
        parse_payload(pb.Payload(fields={"x": value}), field="payload")


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 129])
def test_field_names_that_cannot_be_stored_are_refused(name: str) -> None:
    with pytest.raises(ServiceError, match="field name"):
        parse_payload(pb.Payload(fields={name: pb.Value(bool_value=True)}), field="payload")
