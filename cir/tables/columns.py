"""Types of a source's columns, found from all values, and its cells as payload values of them.

Every single value has a kind, and a column has the type that holds all of its values, whatever the order of
rows. Lists count by their elements.

Numbers are integers if all were written so, floats if each can be one exactly, integers if each is whole. A
column with a place is one of places. Everything else together is keyword, each value as its text, with a
remark, because a stray 'n/a' in a column of prices should be seen by somebody.

In formats without types, 12E12 and 7E5 may be codes: such a column is numeric only where other numbers in it
have a decimal point. 'NaN' is an empty cell and 'inf' a bad one, unless the column holds other texts.

A cell that its column's type cannot hold exactly is the reject of its row. A column of which no value can be
held, such as one of objects, is left out with a remark, as is one whose name no payload field can have."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from cir.fields import INT64, FieldType, Payload, PayloadValue, has_type
from cir.limits import field_name_problem
from cir.tables.cells import BadCell, CellText, Unsupported, is_exact, is_whole, number_of, shown


class UnusableValue(ValueError):
    """A cell that is no value of its column; the message names the column."""


class Kind(StrEnum):
    """Kinds of single values; their texts are for remarks."""

    INTEGER = "integer"
    LONG = "integer beyond 2^53"
    WHOLE = "whole float"
    FLOAT = "float"
    DECIMAL = "decimal number that no float holds"
    CODE = "number or code"
    NAN = "NaN"
    INFINITE = "infinity"
    BOOL = "bool"
    DATETIME = "datetime"
    KEYWORD = "keyword"
    GEO = "geo"


_SAME = {
    Kind.INTEGER: FieldType.INTEGER,
    Kind.LONG: FieldType.INTEGER,
    Kind.WHOLE: FieldType.FLOAT,
    Kind.FLOAT: FieldType.FLOAT,
    Kind.BOOL: FieldType.BOOL,
    Kind.DATETIME: FieldType.DATETIME,
    Kind.GEO: FieldType.GEO,
}
_NUMBERS = frozenset({Kind.INTEGER, Kind.LONG, Kind.WHOLE, Kind.FLOAT})
_FLOATS = frozenset({Kind.INTEGER, Kind.WHOLE, Kind.FLOAT})
_INTEGERS = frozenset({Kind.INTEGER, Kind.LONG, Kind.WHOLE})
_TEXTS = frozenset({FieldType.KEYWORD, FieldType.TEXT})

# No leading zeros: '007' is an article number.
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,18})", re.ASCII)
_FLOAT = re.compile(r"-?(0|[1-9]\d*)(?=[.eE])(\.\d+)?([eE][+-]?\d{1,3})?", re.ASCII)
_CODE = re.compile(r"-?\d+[eE]\d+", re.ASCII)
_NAN = re.compile(r"[+-]?nan", re.ASCII | re.IGNORECASE)
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)


def kind_of(value: object) -> Kind:
    """Return the kind of one value that is no list: a cell, neither bad nor unsupported."""
    match value:
        case bool():
            return Kind.BOOL
        case int():
            if value not in INT64:  # an identifier rather than an amount
                return Kind.KEYWORD
            return Kind.INTEGER if is_exact(value) else Kind.LONG
        case float():
            return Kind.WHOLE if value.is_integer() and int(value) in INT64 else Kind.FLOAT
        case Decimal():
            return _kind_of_decimal(value)
        case CellText():
            return _kind_of_text(value.strip())
        case str():
            return _kind_of_words(value)
        case dict():
            return Kind.GEO
    raise TypeError(f"{value!r} is no cell")


def _kind_of_decimal(value: Decimal) -> Kind:
    whole = is_whole(value) and int(value) in INT64
    if is_exact(value):
        return Kind.WHOLE if whole else Kind.FLOAT
    return Kind.LONG if whole else Kind.DECIMAL


def _kind_of_text(text: str) -> Kind:
    if _INTEGER.fullmatch(text):
        return kind_of(int(text))
    if _FLOAT.fullmatch(text):
        if _CODE.fullmatch(text):
            return Kind.CODE
        number = number_of(text)
        return Kind.INFINITE if isinstance(number, BadCell) else kind_of(number)
    if text.lower() in ("true", "false"):
        return Kind.BOOL
    if _NAN.fullmatch(text):
        return Kind.NAN
    if _INFINITE.fullmatch(text):
        return Kind.INFINITE
    return _kind_of_words(text)


def _kind_of_words(text: str) -> Kind:
    # Moments begin with a digit; most texts do not, and are not worth parsing.
    return Kind.DATETIME if text[:1].isdigit() and has_type(text, FieldType.DATETIME) else Kind.KEYWORD


def elements(cell: object) -> list[object]:
    """Return the single values of a cell: those of a list, or the cell itself."""
    return cell if isinstance(cell, list) else [cell]


def type_of(kinds: Collection[Kind]) -> FieldType | None:
    """Return the type that holds values of these kinds; None where there are none but empty ones."""
    sure = set(kinds) - {Kind.NAN}
    if Kind.GEO in sure:
        return FieldType.GEO
    if not sure:
        return None
    # Infinity and possible codes are numbers where others are, beyond doubt.
    numbers = sure - {Kind.INFINITE, Kind.CODE}
    if numbers and numbers <= _NUMBERS and not (Kind.CODE in sure and not numbers & {Kind.WHOLE, Kind.FLOAT}):
        if numbers <= {Kind.INTEGER, Kind.LONG}:
            return FieldType.INTEGER
        if numbers <= _FLOATS:
            return FieldType.FLOAT
        if numbers <= _INTEGERS and Kind.CODE not in sure:
            return FieldType.INTEGER
    same = {_SAME.get(kind, FieldType.KEYWORD) for kind in sure}
    return same.pop() if len(same) == 1 and not sure & _NUMBERS else FieldType.KEYWORD


@dataclass(slots=True)
class ColumnTypes:
    """Kinds seen in each column with the row where each came first, their counts, and what no field holds."""

    seen: dict[str, dict[Kind, int]] = field(default_factory=dict)
    counts: dict[str, Counter[Kind]] = field(default_factory=dict)
    unsupported: dict[str, tuple[str, int]] = field(default_factory=dict)

    def see(self, cells: Mapping[str, object], row: int) -> None:
        """Take one row's payload cells into account."""
        for name, cell in cells.items():
            kinds = self.seen.setdefault(name, {})
            if isinstance(cell, Unsupported):
                self.unsupported.setdefault(name, (cell.what, row))
            elif not isinstance(cell, BadCell):
                counts = self.counts.setdefault(name, Counter())
                for element in elements(cell):
                    kind = kind_of(element)
                    kinds.setdefault(kind, row)
                    counts[kind] += 1

    def columns(self, given: Mapping[str, FieldType], chosen: Collection[str] = ()) -> Columns:
        """Return the type of every column that has values, and remarks.

        Types in `given` are taken as they are; a column named there or in `chosen` is left out only where it
        must be.
        """
        schema: dict[str, FieldType] = {}
        left_out: set[str] = set()
        notes: list[str] = []
        for name in sorted(self.seen.keys() | given.keys()):
            kinds = self.seen.get(name, {})
            if reason := self._left_out(name, asked_for=name in given or name in chosen):
                left_out.add(name)
                notes.append(reason)
            elif name in given:
                schema[name] = given[name]
            elif kind := type_of(kinds):
                schema[name] = kind
                notes += _remark(name, kind, kinds, self.counts[name])
        return Columns(schema, frozenset(left_out), tuple(notes))

    def _left_out(self, name: str, *, asked_for: bool) -> str:
        if problem := field_name_problem(name):
            return f"column {shown(name)} is left out: {problem}"
        if _INDEX.fullmatch(name) and not asked_for:
            return f"column {name!r} is left out: it is the index of a data frame"
        if name in self.unsupported and not self.seen[name]:
            what, row = self.unsupported[name]
            return f"column {name!r} is left out: it holds {what} (row {row}), which no payload field can"
        return ""


# How pandas writes an index that has no name.
_INDEX = re.compile(r"__index_level_\d+__")


def _remark(name: str, kind: FieldType, kinds: Mapping[Kind, int], counts: Counter[Kind]) -> list[str]:
    odd = kinds.keys() & {Kind.CODE, Kind.DECIMAL}
    same = {_SAME.get(each, FieldType.KEYWORD) for each in kinds.keys() - {Kind.NAN}}
    if kind is not FieldType.KEYWORD or not (len(same) > 1 or odd or kinds.keys() & _NUMBERS):
        return []
    found = ", ".join(f"{each} (row {kinds[each]})" for each in sorted(kinds))
    given = shlex.quote(f"{name}={_usual(counts)}")  # to be pasted
    return [f"column {name!r} is keyword because it holds {found}; `schema` {given} changes that"]


def _usual(counts: Counter[Kind]) -> str:
    """The type that most values have, if there is one other than keyword."""
    texts = {Kind.KEYWORD, Kind.NAN, Kind.DECIMAL, Kind.CODE}
    usual = type_of(counts.keys() - texts)
    most = 2 * sum(counts[kind] for kind in texts) < counts.total()
    return str(usual) if usual and usual is not FieldType.KEYWORD and most else "TYPE"


@dataclass(frozen=True, slots=True)
class Columns:
    """The payload fields of a source: their types, the columns that are no fields, and remarks on both."""

    schema: Mapping[str, FieldType]
    left_out: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def payload(self, cells: Mapping[str, object]) -> Payload:
        """Return the payload of a row.

        Raises:
            UnusableValue: a cell that its column's type cannot hold.
        """
        payload: dict[str, PayloadValue] = {}
        for name, cell in cells.items():
            if name in self.left_out:
                continue
            try:
                value = _value(cell, self.schema.get(name))
            except ValueError as error:
                raise UnusableValue(f"column {name!r} holds {error}") from None
            if value is not None:
                payload[name] = value
        return payload


def _value(cell: object, kind: FieldType | None) -> PayloadValue:
    if isinstance(cell, list):
        values = [_single(element, kind) for element in cell]
        return [value for value in values if value is not None]
    return _single(cell, kind)


def _single(value: object, kind: FieldType | None) -> PayloadValue:
    match value:
        case BadCell(problem):
            raise ValueError(problem)
        case Unsupported(what):
            raise ValueError(f"{what}, which no payload field can")
    if isinstance(value, CellText) and kind not in _TEXTS and (kind is None or _NAN.fullmatch(value.strip())):
        return None
    typed = _typed(value, kind)
    if kind is None or typed is None or not has_type(typed, kind):
        raise ValueError(f"{shown(value)}; expected {_EXPECTED[kind] if kind else 'no value'}")
    return typed


_EXPECTED = {
    FieldType.KEYWORD: "a text, as other values are",
    FieldType.TEXT: "a text",
    FieldType.INTEGER: "a whole number of 64 bits",
    FieldType.FLOAT: "a finite number, a whole one only if a float of 64 bits holds it exactly",
    FieldType.BOOL: "true or false",
    FieldType.DATETIME: "RFC 3339 such as 2024-05-01T12:00:00Z or 2024-05-01",
    FieldType.GEO: 'a place such as {"lat": 52.5, "lon": 13.4}',
}
_GIVEN_NUMBER = re.compile(r"[+-]?(\d{1,400}(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_PLACE = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*[,;]\s*(-?\d+(?:\.\d+)?)\s*", re.ASCII)


def _typed(value: object, kind: FieldType | None) -> PayloadValue:
    """Return a value in the form of its column's type, or None where there is none."""
    bare = value.strip() if isinstance(value, CellText) else value
    match kind:
        case FieldType.KEYWORD | FieldType.TEXT:
            return _text(value)
        case FieldType.INTEGER:
            number = _number(bare)
            return int(number) if number is not None and is_whole(number) else None
        case FieldType.FLOAT:
            number = _number(bare)
            if isinstance(number, (int, Decimal)):
                # Whoever gives the type takes the nearest float for a fraction.
                return float(number) if is_exact(number) or not is_whole(number) else None
            return number
        case FieldType.BOOL if isinstance(value, CellText):
            return {"true": True, "false": False}.get(str(bare).lower())
        case FieldType.GEO if isinstance(value, CellText):
            place = _PLACE.fullmatch(value)
            return {"lat": float(place[1]), "lon": float(place[2])} if place else None
        case FieldType.DATETIME if isinstance(bare, str):
            return str(bare)
    return bare  # type: ignore[return-value]  # the caller asks for its type


def _number(value: object) -> int | float | Decimal | None:
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or not _GIVEN_NUMBER.fullmatch(value):
        return None
    if value.lstrip("+-").isdigit():
        return int(value)
    number = number_of(value)
    return None if isinstance(number, BadCell) else number


def _text(value: object) -> str | None:
    # As JSON writes it, so that 1 and true read alike whatever the format of the manifest.
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, str):
        return str(value)
    return None if isinstance(value, dict) else json.dumps(value)
