from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from google.protobuf import timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st

from cir.common.v1 import payload_pb2 as pb
from cir.errors import InvalidArgument
from cir.payload import GeoPoint, from_payload, from_value, to_payload, to_value

scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.datetimes(timezones=st.just(UTC), min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31)),
    st.builds(GeoPoint, st.floats(-90, 90), st.floats(-180, 180)),
)
# Lists of one type, as the contract asks.
lists = scalars.flatmap(lambda first: st.lists(scalars.filter(lambda other: type(other) is type(first))))


@given(st.one_of(st.none(), scalars, lists))
def test_values_come_back_as_they_went(value: object) -> None:
    back = from_value(pb.Value.FromString(to_value(value, field="f").SerializeToString()))
    assert back == value
    assert type(back) is type(value)


def test_bools_stay_bools_and_integers_stay_integers() -> None:
    assert to_value(True, field="f").WhichOneof("kind") == "bool_value"
    assert to_value(2**62, field="f").integer_value == 2**62
    assert to_value(np.int64(3), field="f").WhichOneof("kind") == "integer_value"
    assert to_value(np.float32(0.5), field="f").float_value == 0.5


def test_datetimes_come_back_in_utc() -> None:
    moment = datetime(2026, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert from_value(to_value(moment, field="f")) == datetime(2026, 5, 1, 10, tzinfo=UTC)


@given(st.datetimes())
def test_a_datetime_without_a_time_zone_is_in_utc_and_a_date_is_midnight(moment: datetime) -> None:
    assert to_value(moment, field="f") == to_value(moment.replace(tzinfo=UTC), field="f")
    midnight = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    assert from_value(to_value(moment.date(), field="f")) == midnight
    assert from_value(to_value([moment.date(), moment], field="f")) == [midnight, moment.replace(tzinfo=UTC)]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "finite"),
        (math.inf, "finite"),
        (2**63, "64 bits"),
        ([1, "a"], "one type"),
        ([[1]], "neither lists"),
        ([None], "neither lists"),
        (object(), "no payload value"),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))), "years 1 to 9999"),
        (datetime(9999, 12, 31, 23, 59, tzinfo=timezone(-timedelta(hours=1))), "years 1 to 9999"),
        ("caf\udce9", "no valid Unicode"),
        (["a", "\ud800"], "no valid Unicode"),
        (np.datetime64("2026-01-01", "ns"), "no payload value"),
        ([2.5, True], "one type"),
        ([2.5, 2**53 + 1], "one type"),
        ({"a": 1}, "no payload value"),
    ],
)
def test_values_without_a_form_on_the_wire_are_refused(value: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as raised:
        to_value(value, field="price")
    assert raised.value.field == "price"


def test_a_payload_is_read_by_name_in_order() -> None:
    payload = {"b": [1, 2], "a": None, "c": "x"}
    assert list(from_payload(to_payload(payload)).items()) == [("a", None), ("b", [1, 2]), ("c", "x")]


def test_integers_among_floats_are_floats() -> None:
    assert from_value(to_value([1, 2.5, np.int64(3)], field="f")) == [1.0, 2.5, 3.0]
    assert to_value(np.array(2.5), field="f").float_value == 2.5


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 129, "\udce9"])
def test_names_that_no_field_can_have_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="a field name"):
        to_payload({name: 1})


def test_what_has_no_form_in_python_reads_as_none() -> None:
    far = pb.Value(datetime_value=timestamp_pb2.Timestamp(seconds=2**40))
    null = pb.Value(null_value=0)  # type: ignore[arg-type]
    assert from_value(far) is None
    assert from_value(pb.Value()) is None
    mixed = pb.ListValue(values=[null, pb.Value(integer_value=1), far, pb.Value()])
    assert from_value(pb.Value(list_value=mixed)) == [1]
