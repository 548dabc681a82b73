"""RFC 3339 as every door reads and writes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cir.datetimes import format_datetime, in_utc, parse_datetime

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
MOMENTS = st.datetimes(
    timezones=st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(
        lambda offset: timezone(timedelta(minutes=offset // timedelta(minutes=1)))
    )
)


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-01T12:00:00Z",
        "2024-05-01t12:00:00z",
        "2024-05-01T12:00Z",  # Java's OffsetDateTime without seconds
        "2024-05-01T12:00",  # an input field of a browser
        "2024-05-01 12:00:00",
        "2024-05-01T12:00:00.000Z",  # a browser's toISOString
        "2024-05-01T12:00:00.000000000Z",  # Go with nanoseconds
        "2024-05-01T12:00:00.0+00:00",
        "2024-05-01T12:00:00-00:00",
        "2024-05-01T17:30:00+05:30",
        "2024-05-02T11:59:00+23:59",
    ],
)
def test_the_forms_of_go_java_and_browsers_are_one_moment(text: str) -> None:
    assert parse_datetime(text) == NOON


def test_digits_beyond_microseconds_are_cut() -> None:
    assert parse_datetime("2024-05-01T12:00:00.123456789Z") == NOON.replace(microsecond=123_456)
    assert parse_datetime("2024-05-01T12:00:00.1Z") == NOON.replace(microsecond=100_000)
    assert parse_datetime("2024-05-01") == NOON.replace(hour=0)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "soon",
            "2024",
            "2024-5-1",
            "20240501",
            "2024-W18-3",
            "2024-05-01T",
            "2024-05-01Z",
            "1714564800",
        ),
        *("2024-05-01T12", "2024-05-01T12:00:00.", "2024-05-01T12:00:00,5Z", "2024-05-01T12:00:00+0200"),
        *("2024-02-30", "2024-05-01T24:00:00Z", "2024-05-01T23:59:60Z", "2024-05-01T12:00:00+24:00"),
        *("0000-01-01", "10000-01-01", "+012024-05-01T12:00:00Z", "٢٠٢٤-٠٥-٠١", "2024-05-01T12:00:00Z\n"),
        *(
            "2024-05-01T12:00:00+02:00[Europe/Berlin]",
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00",
        ),
    ],
)
def test_other_texts_are_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(ValueError, match=r"RFC 3339|years 1 to 9999"):
        parse_datetime(text)


def test_a_leap_second_is_refused_with_what_to_write() -> None:
    with pytest.raises(ValueError, match=r"a leap second.*second 59 or the next minute"):
        parse_datetime("2016-12-31T23:59:60Z")


@given(MOMENTS)
def test_what_is_written_is_read_again_and_sorts_as_text_by_time(moment: datetime) -> None:
    try:
        utc = in_utc(moment)
    except ValueError:
        with pytest.raises(ValueError, match="years 1 to 9999"):
            format_datetime(moment)
        return
    text = format_datetime(moment)
    assert parse_datetime(text) == utc == moment
    assert format_datetime(parse_datetime(text)) == text
    assert text.endswith("Z")
    assert len(text) in (20, 27)


@given(
    st.text(max_size=40)
    | st.from_regex(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:\d\d)?")
)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        moment = parse_datetime(text)
    except ValueError:
        return
    assert moment.tzinfo is UTC
    assert parse_datetime(format_datetime(moment)) == moment
