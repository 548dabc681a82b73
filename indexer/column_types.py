"""Which type a column of a manifest has, found from all its values. Pure, and independent of row order.

Every single value has a kind; a column has the kind of its values when they agree. Integers and floats
together are floats; everything else together is keyword, each value as its text, with a remark, because a
stray 'n/a' in a column of prices should be seen by somebody. Places are the exception: they mix with
nothing. Lists count by their elements.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from indexer.rows import CellText
from vector_store.types import FieldType
from vector_store.validation import INT64, has_type

# No leading zeros: '007' is an article number.
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,18})", re.ASCII)
_FLOAT = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,3})?", re.ASCII)
_NUMBERS = frozenset({FieldType.INTEGER, FieldType.FLOAT})


class UnusableValue(ValueError):
    """A value that no payload field can hold; the message says what was expected."""


def kind_of(value: object) -> FieldType:
    """The kind of one value that is no list. Raises `UnusableValue` for objects that are no places."""
    match value:
        case bool():
            return FieldType.BOOL
        case int():
            # Longer than 64 bits: an identifier rather than an amount.
            return FieldType.INTEGER if value in INT64 else FieldType.KEYWORD
        case float():
            return FieldType.FLOAT
        case CellText():
            return _kind_of_text(value.strip())
        case str():
            return FieldType.DATETIME if has_type(value, FieldType.DATETIME) else FieldType.KEYWORD
        case dict() if set(value) == {"lat", "lon"}:
            return FieldType.GEO
        case dict():
            raise UnusableValue(
                'an object that is no place {"lat": .., "lon": ..}; write its members as columns of their own'
            )
    raise UnusableValue(
        f"a value of type {type(value).__name__}; expected text, number, boolean, date, place, or a list"
    )


def elements(value: object) -> list[object]:
    """The single values of a cell: those of a list, without its nulls, or the cell itself."""
    return [element for element in value if element is not None] if isinstance(value, list) else [value]


@dataclass(slots=True)
class ColumnTypes:
    """What was seen of each column: every kind, and the row where it came first."""

    seen: dict[str, dict[FieldType, int]] = field(default_factory=dict)

    def see(self, cells: Mapping[str, object], row: int) -> None:
        """Take one row's payload cells into account. Raises `UnusableValue`, naming the column."""
        for name, value in cells.items():
            kinds = self.seen.setdefault(name, {})
            for element in elements(value):
                try:
                    kinds.setdefault(kind_of(element), row)
                except UnusableValue as error:
                    raise UnusableValue(f"column {name!r} holds {error}") from None

    def schema(self, given: Mapping[str, FieldType]) -> tuple[dict[str, FieldType], list[str]]:
        """The type of every column that has values, and remarks on those that hold several kinds.

        Types in `given` are taken as they are. Raises `UnusableValue` for places among other values.
        """
        schema: dict[str, FieldType] = {}
        notes: list[str] = []
        for name in sorted(self.seen.keys() | given.keys()):
            kinds = self.seen.get(name, {})
            if name in given:
                schema[name] = given[name]
            elif len(kinds) == 1:
                schema[name] = next(iter(kinds))
            elif kinds and kinds.keys() <= _NUMBERS:
                schema[name] = FieldType.FLOAT
            elif kinds:
                schema[name] = FieldType.KEYWORD
                found = ", ".join(f"{kind} (row {kinds[kind]})" for kind in sorted(kinds))
                if FieldType.GEO in kinds:
                    raise UnusableValue(f"column {name!r} holds {found}; places mix with nothing else")
                notes.append(
                    f"column {name!r} is keyword because it holds {found}; a given type changes that"
                )
        return schema, notes


def _kind_of_text(text: str) -> FieldType:
    if _INTEGER.fullmatch(text):
        return FieldType.INTEGER if int(text) in INT64 else FieldType.KEYWORD
    if _FLOAT.fullmatch(text) and has_type(float(text), FieldType.FLOAT) and not text.isdigit():
        return FieldType.FLOAT
    if text.lower() in ("true", "false"):
        return FieldType.BOOL
    return FieldType.DATETIME if has_type(text, FieldType.DATETIME) else FieldType.KEYWORD
