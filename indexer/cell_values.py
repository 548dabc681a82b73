"""Cells of a manifest as payload values of their column's type. Pure.

A value that does not fit comes out as it is: the check of the payload then names item, field and value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from indexer.column_types import elements
from indexer.rows import CellText
from vector_store.types import FieldType, Payload, PayloadValue

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
