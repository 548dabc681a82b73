"""Cells of a manifest, whatever its format: what counts as empty, and what no payload field can hold.

Every reader turns what it finds into cells by the rules of this module alone, so that the same values give
the same items from CSV, JSON Lines, Parquet and tar shards. Pure.

Empty, and so absent, are null, NaN, a text of nothing but white space, and a place without coordinates. All
else is a bool, an int, a finite float, a `Decimal`, a text, a place, or a list of these without empty ones.
What cannot be one of them comes as a `BadCell`, the reject of its row, or as an `Unsupported` value, which is
for the column to judge (`cir.tables.columns`).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from cir.fields import EXACT_IN_FLOAT, FieldType, has_type
from cir.limits import is_text


class CellText(str):
    """The text of a cell in a format without types, where '12' may mean a number."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class BadCell:
    """A value of a usable kind that is none of ours; `problem` continues "column 'x' holds"."""

    problem: str


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A value of a kind that no payload field can hold, such as an object; `what` names it."""

    what: str
    value: object = field(default=None, repr=False)


PLACE = frozenset({"lat", "lon"})


def cell_of(value: object) -> object:
    """Return a value of JSON, or what another format has for one, as a cell; None where it is empty."""
    match value:
        case None | bool() | int() | BadCell() | Unsupported():
            return value
        case float():
            return None if math.isnan(value) else finite(value)
        case Decimal():
            return value if value.is_finite() else cell_of(float(value))
        case str():
            return text_cell(value)
        case Mapping():
            return _place(value) if value.keys() == PLACE else Unsupported("an object", value)
        case list() | tuple():
            return _list(value)
    return Unsupported(f"a value of type {type(value).__name__}", value)


def text_cell(text: str) -> object:
    """Return a text as a cell; one with a byte or character that UTF-8 has no place for is a `BadCell`."""
    if not text.strip():
        return None
    return text if is_text(text) else BadCell(f"{shown(text)}, which is no text in UTF-8")


def finite(value: float) -> float | BadCell:
    """Return a number that is not NaN, or a `BadCell` for infinity."""
    return value if math.isfinite(value) else BadCell(f"{value}; expected a finite number")


def number_of(text: str) -> float | Decimal | BadCell:
    """Return the number that a decimal text with a point or an exponent writes.

    It is the nearest float. Where floats no longer hold every whole number, a number written without an
    exponent is kept as it is, a `Decimal`: it may be an identifier.
    """
    value = float(text)
    if not math.isfinite(value):
        return BadCell(f"the number {shown(text)}, which is larger than any float of 64 bits")
    if abs(value) >= EXACT_IN_FLOAT and not set(text) & {"e", "E"}:
        return Decimal(text)
    return value


def is_exact(value: int | Decimal) -> bool:
    """Return whether a float holds this number: it equals it, or is written with the same digits."""
    try:
        near = float(value)
    except OverflowError:
        return False
    return math.isfinite(near) and (near == value or Decimal(repr(near)) == value)


def is_whole(value: int | float | Decimal) -> bool:
    """Return whether a finite number has no fraction."""
    return value == (value.to_integral_value() if isinstance(value, Decimal) else int(value))


def shown(value: object) -> str:
    """Return a value for a message: cut, and in characters that any message can hold."""
    text = ascii(value) if isinstance(value, str) and not is_text(value) else repr(value)
    return f"{text[:80]}…" if len(text) > 80 else text


def parse_json(text: str) -> object:
    """Return a JSON document as Python has it, with NaN as NaN and what is unusable as `BadCell`.

    Raises:
        ValueError: the text is no JSON, or nests too deeply.
    """
    try:
        return json.loads(
            text,
            parse_float=number_of,
            parse_int=_integer,
            parse_constant=float,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def _integer(text: str) -> int | BadCell:
    try:
        return int(text)
    except ValueError:  # Python's own bound on digits
        return BadCell(f"an integer of {len(text)} digits")


def _object(pairs: list[tuple[str, object]]) -> object:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    counts = Counter(name for name, _ in pairs)
    return BadCell(f"the name {shown(counts.most_common(1)[0][0])} twice in one object")


def _place(value: Mapping[str, object]) -> object:
    members = [_coordinate(value[name]) for name in ("lat", "lon")]
    if members == [None, None]:
        return None
    place = dict(zip(("lat", "lon"), members, strict=True))
    if not has_type(place, FieldType.GEO):
        return BadCell("a place whose latitude and longitude are not both there in degrees")
    return place


def _coordinate(value: object) -> object:
    # Not `cell_of`, which would go as deep as the document does.
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        try:
            return None if math.isnan(value) else float(value)
        except OverflowError:
            return math.inf
    return value if value is None else ""


def _list(value: Sequence[object]) -> object:
    if any(isinstance(element, (list, tuple)) for element in value):
        return Unsupported("a list of lists", value)
    cells = [cell for cell in map(cell_of, value) if cell is not None]
    for cell in cells:
        if isinstance(cell, BadCell):
            return cell
    for cell in cells:
        if isinstance(cell, Unsupported):
            return Unsupported(f"a list with {cell.what}", value)
    return cells
