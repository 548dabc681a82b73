"""Types of a manifest's columns, and its cells as payload values of them.

Types are found from all values of a column, whatever the order of rows. Every single value has a kind; a
column
has the kind of its values when they agree. Integers and floats together are floats; everything else
together is
keyword, each value as its text, with a remark, because a stray 'n/a' in a column of prices should be
seen by
somebody. Places are the exception: they mix with nothing. Lists count by their elements.

A value that does not fit its column comes out as it is: the check of the payload then names item, field and
value."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from indexer.errors import SourceError
from indexer.sources.rows import CellText
from vector_store.types import FieldType, Payload, PayloadValue
from vector_store.validation import INT64, has_type

# No leading zeros: '007' is an article number.
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,18})", re.ASCII)
_FLOAT = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,3})?", re.ASCII)
_NUMBERS = frozenset({FieldType.INTEGER, FieldType.FLOAT})


class UnusableValue(ValueError):
    """A value that no payload field can hold; the message says what was expected."""


def kind_of(value: object) -> FieldType:
    """The kind of one value that is no list.

    Raises:
        UnusableValue: objects that are no places.
    """
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
    """Kinds seen in each column, and the row where each came first."""

    seen: dict[str, dict[FieldType, int]] = field(default_factory=dict)

    def see(self, cells: Mapping[str, object], row: int) -> None:
        """Take one row's payload cells into account.

        Raises:
            UnusableValue: a cell that cannot be used; it names the column.
        """
        for name, value in cells.items():
            kinds = self.seen.setdefault(name, {})
            for element in elements(value):
                try:
                    kinds.setdefault(kind_of(element), row)
                except UnusableValue as error:
                    raise UnusableValue(f"column {name!r} holds {error}") from None

    def schema(self, given: Mapping[str, FieldType]) -> tuple[dict[str, FieldType], list[str]]:
        """The type of every column that has values, and remarks on those that hold several kinds.

        Types in `given` are taken as they are.

        Raises:
            UnusableValue: places among other values.
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


_PLACE = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*[,;]\s*(-?\d+(?:\.\d+)?)\s*", re.ASCII)


def payload_of(cells: Mapping[str, object], schema: Mapping[str, FieldType]) -> Payload:
    """The payload of a row; cells outside the schema keep the type that the file gives them."""
    return {name: _value(cell, schema.get(name)) for name, cell in cells.items()}


def _value(cell: object, kind: FieldType | None) -> PayloadValue:
    if isinstance(cell, list):
        return [_single(element, kind) for element in elements(cell)]
    return _single(cell, kind)


def _single(value: object, kind: FieldType | None) -> PayloadValue:
    if kind is FieldType.KEYWORD or kind is FieldType.TEXT:
        return _text(value)
    if kind is FieldType.FLOAT and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return value
    if isinstance(value, CellText):
        return _typed(value, kind)
    return value  # type: ignore[return-value]  # JSON value; the payload check refuses what is left over


def _text(value: object) -> str:
    # As JSON writes it, so that 1 and true read alike whatever the format of the manifest.
    return str(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _typed(text: str, kind: FieldType | None) -> PayloadValue:
    bare = text.strip()
    try:
        match kind:
            case FieldType.INTEGER:
                return int(bare)
            case FieldType.FLOAT:
                return float(bare)
            case FieldType.BOOL:
                return {"true": True, "false": False}.get(bare.lower(), bare)
            case FieldType.DATETIME:
                return bare
            case FieldType.GEO if place := _PLACE.fullmatch(text):
                return {"lat": float(place[1]), "lon": float(place[2])}
    except ValueError:
        pass
    return str(text)


def read_schema(texts: Sequence[str]) -> dict[str, FieldType]:
    """Types by field from "field=type" texts and names of JSON files that hold {"field": "type"}.

    Later ones win.

    Raises:
        SourceError: a type that there is not, or a file that cannot be read.
    """
    schema: dict[str, FieldType] = {}
    for text in texts:
        name, separator, kind = text.rpartition("=")
        pairs: Mapping[str, object] = {name: kind} if separator else _read(Path(text))
        for column, value in pairs.items():
            if not isinstance(value, str) or value not in list(FieldType):
                raise SourceError(
                    f"`schema`: field {column!r} has type {value!r}; expected one of {', '.join(FieldType)}"
                )
            schema[column.strip()] = FieldType(value)
    return schema


def _read(path: Path) -> dict[str, object]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(
            f"`schema`: {path} is neither FIELD=TYPE nor a JSON file that can be read: {error}"
        ) from error
    if not isinstance(document, dict):
        raise SourceError(f'`schema`: {path} holds no JSON object such as {{"price": "float"}}')
    return document
