"""Results and items as tables: pyarrow, and through it pandas and polars. Values are exact, or refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cir.errors import InvalidArgument
from cir.fields import EXACT_IN_FLOAT
from cir.payload import GeoPoint, Value
from cir.tables.arrow_cells import arrow
from cir.tables.cells import shown

if TYPE_CHECKING:
    from cir.models import Item, Result


def to_arrow(entries: Iterable[Result | Item], *, fields: Sequence[str] | None = None) -> Any:
    """Return results or items as a `pyarrow.Table`, a row each.

    Columns are `id`, of results `rank` and `score`, `image`, then the payload's fields by name (or `fields`
    alone), and `features` where there are any. Moments are timestamps in UTC, places structs of `lat` and
    `lon`.

    Raises:
        InvalidArgument: a field has values that no column can hold side by side, or the name of another
        column. ModuleNotFoundError: pyarrow is not installed.
    """
    pa = arrow()
    rows = list(entries)
    columns: dict[str, Any] = {"id": pa.array([row.id for row in rows], pa.string())}
    if rows and hasattr(rows[0], "score"):
        columns["rank"] = pa.array([getattr(row, "rank", None) for row in rows], pa.int64())
        columns["score"] = pa.array([getattr(row, "score", None) for row in rows], pa.float64())
    columns["image"] = pa.array([row.image or None for row in rows], pa.string())
    if any(row.features is not None for row in rows):
        columns["features"] = pa.array(
            [None if row.features is None else row.features.values for row in rows], pa.list_(pa.float32())
        )
    found = sorted({name for row in rows for name in row.payload}) if fields is None else list(fields)
    for name in found:
        if name in columns:
            raise InvalidArgument(
                f"a payload field is called {name!r}, as another column is; choose others by `fields`",
                field="fields",
            )
        columns[name] = _column([row.payload.get(name) for row in rows], name)
    features = columns.pop("features", None)
    return pa.table(columns if features is None else columns | {"features": features})


def to_pandas(entries: Iterable[Result | Item], *, fields: Sequence[str] | None = None) -> Any:
    """Return results or items as a pandas `DataFrame` of Arrow's types, in which integers stay exact.

    Columns and errors are those of `to_arrow`.
    """
    table = to_arrow(entries, fields=fields)
    import pandas

    return table.to_pandas(types_mapper=pandas.ArrowDtype)


def to_polars(entries: Iterable[Result | Item], *, fields: Sequence[str] | None = None) -> Any:
    """Return results or items as a polars `DataFrame`. Columns and errors are those of `to_arrow`."""
    table = to_arrow(entries, fields=fields)
    import polars

    return polars.from_arrow(table)


def _column(values: list[Value], name: str) -> Any:
    pa = arrow()
    kinds: dict[str, int] = {}
    for row, value in enumerate(values):
        for kind in _kinds(value):
            kinds.setdefault(kind, row)
    single = {kind.removeprefix("list of ") for kind in kinds} - {""}
    lists = {kind.startswith("list of ") for kind in kinds}
    if len(lists) > 1 or not (len(single) <= 1 or (single == {"integer", "float"} and _are_exact(values))):
        found = ", ".join(
            f"{kind or 'nothing'} (row {row}: {shown(values[row])})" for kind, row in kinds.items()
        )
        raise InvalidArgument(
            f"field {name!r} holds {found}, which no column can hold together; choose others by `fields`",
            field="fields",
        )
    kind = "float" if len(single) == 2 else next(iter(single), "")
    types = {
        "": pa.null(),
        "bool": pa.bool_(),
        "integer": pa.int64(),
        "float": pa.float64(),
        "text": pa.string(),
        "datetime": pa.timestamp("us", "UTC"),
        "place": pa.struct({"lat": pa.float64(), "lon": pa.float64()}),
    }
    arrow_type = pa.list_(types[kind]) if True in lists else types[kind]
    return pa.array([_plain(value) for value in values], arrow_type)


def _kinds(value: Value) -> set[str]:
    """Return the kinds of a value's parts; none of None."""
    match value:
        case None:
            return set()
        case list() | tuple():
            return {f"list of {kind}" for element in value for kind in _kinds(element)} or {"list of "}
        case bool():
            return {"bool"}
        case int():
            return {"integer"}
        case float():
            return {"float"}
        case datetime():
            return {"datetime"}
        case GeoPoint():
            return {"place"}
    return {"text"}


def _are_exact(values: Iterable[Value]) -> bool:
    parts = [part for value in values for part in (value if isinstance(value, (list, tuple)) else (value,))]
    return all(abs(part) <= EXACT_IN_FLOAT for part in parts if isinstance(part, int))


def _plain(value: Value) -> object:
    if isinstance(value, (list, tuple)):
        return [_plain(element) for element in value]
    if isinstance(value, GeoPoint):
        return {"lat": value.latitude, "lon": value.longitude}
    return value
