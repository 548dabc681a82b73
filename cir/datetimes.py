"""Points in time as text (RFC 3339), read and written in one way by every door of the system. Pure.

Go, Java and browsers write RFC 3339 each in their own way, so these forms are read:

    2024-05-01                              midnight in UTC
    2024-05-01T12:00Z                       without seconds
    2024-05-01T12:00:00.123456789+02:00     with any number of digits; those beyond microseconds are cut
    2024-05-01t12:00:00z                    in small letters
    2024-05-01 12:00:00                     with a space; without an offset in UTC

Offsets reach to 23:59. Leap seconds, week dates and dates without hyphens are refused, and so is a moment
outside the years 1 to 9999 in UTC, which neither Python nor the wire could hold.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone

EXPECTED = "RFC 3339 such as 2024-05-01T12:00:00Z, 2024-05-01T12:00+02:00 or 2024-05-01, years 1 to 9999"

_FORM = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)"
    r"(?:[Tt ](?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d+))?)?"
    r"(?P<offset>[Zz]|[+-]\d\d:\d\d)?)?",
    re.ASCII,
)


def parse_datetime(text: str) -> datetime:
    """Return the moment that a text names, in UTC.

    Raises:
        ValueError: the text is no RFC 3339, or names a moment outside the years 1 to 9999 in UTC.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:60]!r} is no point in time; expected {EXPECTED}")
    try:
        if match["second"] == "60":
            raise ValueError("a leap second, which no value can hold; write second 59 or the next minute")
        year, month, day = map(int, match["date"].split("-"))
        moment = datetime(
            year,
            month,
            day,
            int(match["hour"] or 0),
            int(match["minute"] or 0),
            int(match["second"] or 0),
            int((match["fraction"] or "0")[:6].ljust(6, "0")),
            tzinfo=_offset(match["offset"]),
        )
    except ValueError as error:
        raise ValueError(f"{text!r} is no point in time ({error}); expected {EXPECTED}") from None
    return in_utc(moment)


def parse_span(text: str) -> tuple[datetime, datetime | None]:
    """Return begin and end of what a text equals: its moment, which is both, or its day in UTC for a date.

    The end of a day is midnight and does not belong to it; the last day of all has none.

    Raises:
        ValueError: as `parse_datetime` raises it.
    """
    start = parse_datetime(text)
    if len(text) > len("2024-05-01"):
        return start, start
    return start, None if start.date() == date.max else start + timedelta(days=1)


def in_utc(moment: datetime) -> datetime:
    """Return a moment in UTC; one without a time zone is taken as UTC.

    Raises:
        ValueError: it lies outside the years 1 to 9999 in UTC.
    """
    if moment.utcoffset() is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{moment.isoformat()} lies outside the years 1 to 9999 in UTC") from None


def format_datetime(moment: datetime) -> str:
    """Return the one form in which moments are stored: 2024-05-01T12:00:00Z, with 6 more digits where needed.

    Raises:
        ValueError: the moment lies outside the years 1 to 9999 in UTC.
    """
    return f"{in_utc(moment).replace(tzinfo=None).isoformat()}Z"


def _offset(text: str | None) -> timezone:
    if text is None or text in "Zz":
        return UTC
    hours, minutes = int(text[1:3]), int(text[4:6])
    if hours > 23 or minutes > 59:
        raise ValueError("an offset reaches to 23:59")
    distance = timedelta(hours=hours, minutes=minutes)
    return timezone(-distance if text[0] == "-" else distance)
