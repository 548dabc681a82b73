"""Whether a specification and the payloads written under it make sense. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from vector_store.catalogs import FieldType, Quantization, VersionSpec
from vector_store.errors import InvalidQuery

MAX_DIMENSION = 65_536
MAX_FIELD_NAME = 128
MAX_NODES = 1024
INT64 = range(-(2**63), 2**63)

# RFC 3339, with date alone and a missing offset (taken as UTC) allowed: what both engines can compare.
_DATETIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)?)?")


def check_spec(spec: VersionSpec) -> None:
    """Raise `InvalidQuery` for a dimension, field name or index option that no engine takes."""
    if not 1 <= spec.dimension <= MAX_DIMENSION:
        raise InvalidQuery(f"dimension {spec.dimension}: expected 1 to {MAX_DIMENSION}", field="dimension")
    for name in spec.schema:
        if not 1 <= len(name) <= MAX_FIELD_NAME or not is_text(name) or not name.isprintable():
            raise InvalidQuery(
                f"field name {name!r}: expected 1 to {MAX_FIELD_NAME} printable characters", field=name
            )
    index = spec.index
    if not 2 <= index.hnsw_m <= 256:
        raise InvalidQuery(f"hnsw_m {index.hnsw_m}: expected 2 to 256", field="hnsw_m")
    if not 4 <= index.hnsw_ef_construct <= 4096:
        raise InvalidQuery(
            f"hnsw_ef_construct {index.hnsw_ef_construct}: expected 4 to 4096", field="hnsw_ef_construct"
        )
    Quantization(index.quantization)
    for name in ("shards", "replicas", "write_consistency"):
        if not 0 <= getattr(index, name) <= MAX_NODES:
            raise InvalidQuery(
                f"{name} {getattr(index, name)}: expected 0 (the store's default) to {MAX_NODES}", field=name
            )


def check_payload(payload: Mapping[str, Any], schema: Mapping[str, FieldType], *, item: str) -> None:
    """Raise `InvalidQuery` that names item and field for a value that cannot be stored or found again.

    A field of the schema must have the schema's type, or be null, or a list of the type. Fields outside
    the schema are kept as they are and cannot be filtered.
    """
    for name, value in payload.items():
        if not isinstance(name, str) or not name or not is_text(name):
            raise InvalidQuery(f"item {item!r}: payload field name {name!r} is not a text", field=str(name))
        kind = schema.get(name)
        values = value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
        for element in values:
            if kind is not None and element is not None and not fits(element, kind):
                raise InvalidQuery(
                    f"item {item!r}: field {name!r} has type {kind}, got {element!r}; {_EXPECTED[kind]}",
                    field=name,
                )
        if kind is None and not _is_storable(value):
            raise InvalidQuery(
                f"item {item!r}: field {name!r} holds {value!r}; expected JSON values with finite numbers "
                "and integers of 64 bits",
                field=name,
            )


_EXPECTED = {
    FieldType.KEYWORD: "expected a text",
    FieldType.INTEGER: "expected a whole number of 64 bits",
    FieldType.FLOAT: "expected a finite number",
    FieldType.BOOL: "expected true or false",
    FieldType.DATETIME: "expected RFC 3339 such as '2024-05-01T12:00:00Z' or '2024-05-01'",
    FieldType.GEO: "expected {'lat': degrees, 'lon': degrees}",
    FieldType.TEXT: "expected a text",
}


def fits(value: object, kind: FieldType) -> bool:
    """Whether a single, non-null value has the type `kind`."""
    match kind:
        case FieldType.KEYWORD | FieldType.TEXT:
            return isinstance(value, str) and is_text(value)
        case FieldType.INTEGER:
            return isinstance(value, int) and not isinstance(value, bool) and value in INT64
        case FieldType.FLOAT:
            return is_number(value)
        case FieldType.BOOL:
            return isinstance(value, bool)
        case FieldType.DATETIME:
            return isinstance(value, str) and _is_datetime(value)
        case FieldType.GEO:
            return _is_geo(value)


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8 (no lone surrogates)."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def is_number(value: object) -> bool:
    """Whether `value` is a finite number; booleans are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return value in INT64 if isinstance(value, int) else math.isfinite(value)


def _is_datetime(value: str) -> bool:
    if not _DATETIME.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_geo(value: object) -> bool:
    if not isinstance(value, Mapping) or set(value) != {"lat", "lon"}:
        return False
    lat, lon = value["lat"], value["lon"]
    return is_number(lat) and is_number(lon) and abs(lat) <= 90 and abs(lon) <= 180


def _is_storable(value: object, depth: int = 0) -> bool:
    if depth > 32:
        return False
    if value is None or isinstance(value, bool) or is_number(value):
        return True
    if isinstance(value, str):
        return is_text(value)
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and is_text(k) and _is_storable(v, depth + 1) for k, v in value.items())
    return isinstance(value, (list, tuple)) and all(_is_storable(v, depth + 1) for v in value)
