"""Single values as they are typed on a command line. Pure; a `ValueError` says what was expected."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_BOOLS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def elements(text: str) -> list[str]:
    """The parts between commas; a comma inside a value is written `\\,`."""
    return [part.replace("\\,", ",") for part in re.split(r"(?<!\\),", text)]


def scalar(text: str, kind: str) -> str | int | bool:
    """A value of a keyword, text, integer or bool field."""
    if kind == "integer":
        return integer(text)
    if kind == "bool":
        if text.lower() not in _BOOLS:
            raise ValueError(f"{text!r} is not true or false")
        return _BOOLS[text.lower()]
    return text


def integer(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def number(text: str) -> float:
    """A number."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def moment(text: str) -> datetime:
    """A point in time; in UTC where the text names no offset."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no point in time; write 2026-01-31 or 2026-01-31T12:00+01:00"
        ) from None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def numbers(text: str, count: int, expected: str) -> list[float]:
    """So many numbers between commas; `expected` says what they mean."""
    parts = text.split(",")
    if len(parts) != count:
        raise ValueError(f"a geo field takes {expected}")
    return [number(part) for part in parts]
