"""Items out of data frames: pandas, polars, pyarrow, and whatever else hands out Arrow's streams.

Values are exact or refused, by the rules of manifests (`cir.tables.cells`, `cir.tables.columns`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cir.datetimes import parse_datetime
from cir.errors import InvalidArgument
from cir.fields import FieldType, Payload
from cir.items import ItemWrite
from cir.limits import item_id_problem
from cir.payload import GeoPoint
from cir.tables.arrow_cells import Cells, arrow, column_cells
from cir.tables.cells import BadCell, Unsupported, cell_of, shown
from cir.tables.columns import Columns, ColumnTypes, UnusableValue
from cir.vectors import Features


class FrameItems:
    """The rows of a data frame as items, to be given to `upload`, `import_items` or `upsert`.

    `id`, `image`, `features` and `location` name the columns of these parts: texts or integers; images as
    `cir.Turn` takes them; raw vectors, whose model is `model_fingerprint`; and where an image is, which is
    stored and never opened. A part that is not named is absent. `fields` are the payload's columns, by
    default all others, and `schema` the types of some, such as those of a catalog; the rest is found from
    all values, as those of a manifest are (texts that are all moments are datetimes), and `schema` of the
    result has them all, as `create_catalog` takes them. Empty cells and NaN are absent.

    Raises:
        InvalidArgument: a column is missing, or a value has no exact form in its field; it names row (from 0)
            and column.
        ModuleNotFoundError: pyarrow is not installed.
    """

    def __init__(
        self,
        frame: Any,
        *,
        id: str = "id",
        image: str = "",
        features: str = "",
        location: str = "",
        fields: Sequence[str] | None = None,
        schema: Mapping[str, str] | None = None,
        model_fingerprint: str = "",
    ) -> None:
        table = _Table(frame, id)
        named = [name for name in (id, image, features, location) if name]
        chosen = list(fields) if fields is not None else [name for name in table.names if name not in named]
        for name in (*named, *chosen):
            table.check(name)
        self._ids = _ids(table.cells(id), id)
        count = len(self._ids)
        self._images = table.values(image) if image else [None] * count
        self._features = table.values(features) if features else [None] * count
        self._locations = _texts(table.cells(location), location) if location else [""] * count
        self._model_fingerprint = model_fingerprint
        cells = {name: table.cells(name) for name in chosen}
        columns = _columns(cells, schema or {})
        self.schema: dict[str, str] = {name: str(kind) for name, kind in columns.schema.items()}
        self._payloads = [_payload(columns, cells, row) for row in range(count)]

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[ItemWrite]:
        for row, item_id in enumerate(self._ids):
            vector = self._features[row]
            yield ItemWrite(
                item_id,
                content=self._images[row],
                features=None if vector is None else Features(vector, self._model_fingerprint),
                payload=self._payloads[row],
                image=self._locations[row],
            )


class _Table:
    """A data frame by columns, read through Arrow, and value by value where Arrow cannot hold them."""

    def __init__(self, frame: Any, id: str) -> None:
        pa = self._pa = arrow()
        if isinstance(frame, pa.RecordBatch):
            frame = pa.Table.from_batches([frame])
        kind = type(frame).__module__.partition(".")[0]
        if kind == "polars" and hasattr(frame, "collect"):
            frame = frame.collect()
        if kind == "pandas" and hasattr(frame, "columns"):
            if id not in frame.columns and id in frame.index.names:
                frame = frame.reset_index()
        elif kind != "polars" and not isinstance(frame, pa.Table):
            if not hasattr(frame, "__arrow_c_stream__"):
                raise InvalidArgument(
                    f"a {type(frame).__name__} is no data frame; give one of pandas, polars or pyarrow",
                    field="frame",
                )
            frame = pa.table(frame)
        self._frame = frame
        self.names: list[str] = list(frame.column_names if isinstance(frame, pa.Table) else frame.columns)

    def check(self, name: str) -> None:
        """Raise `InvalidArgument` unless there is one column of this name, which is a text."""
        if not isinstance(name, str):
            raise InvalidArgument(
                f"the name of column {name!r} is no text; rename it or leave it out of `fields`",
                field="frame",
            )
        if self.names.count(name) != 1:
            known = ", ".join(str(each) for each in self.names[:50])
            what = "no column" if name not in self.names else "several columns"
            raise InvalidArgument(f"the frame has {what} {name!r}; its columns are {known}", field="frame")

    def values(self, name: str) -> list[Any]:
        """Return the values of a column as they are, None for an empty one."""
        column = self._frame[name]
        values = column.to_pylist() if isinstance(self._frame, self._pa.Table) else list(column)
        return [None if _is_missing(value) else value for value in values]

    def cells(self, name: str) -> Cells:
        """Return the cells of a column."""
        column = self._frame[name]
        if not isinstance(self._frame, self._pa.Table):
            if str(column.dtype) == "Object":
                # Polars would write the addresses of its objects.
                return [_cell(value) for value in column]
            try:
                # Of polars; of pandas.
                to_arrow = getattr(column, "to_arrow", None)
                column = to_arrow() if to_arrow is not None else self._pa.array(column, from_pandas=True)
            except (self._pa.ArrowException, OverflowError, TypeError, ValueError):
                # Of several types, or of one that Arrow does not know.
                return [_cell(value) for value in column]
        if isinstance(column, self._pa.ChunkedArray):
            return [cell for chunk in column.chunks for cell in column_cells(chunk)]
        return column_cells(column)


def _is_missing(value: Any) -> bool:
    # None, and NaN, NaT and NA of pandas, which differ from themselves.
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and value != value


def _cell(value: Any) -> object:
    if _is_missing(value):
        return None
    if hasattr(value, "tolist") and type(value).__module__ == "numpy":
        value = value.tolist()
    return cell_of(value)


def _ids(cells: Cells, name: str) -> list[str]:
    ids: dict[str, int] = {}
    for row, cell in enumerate(cells):
        if isinstance(cell, bool) or not isinstance(cell, (str, int)):
            found = "nothing" if cell is None else _described(cell)
            raise _refused(row, name, f"{found}; an id is a text or an integer")
        if problem := item_id_problem(str(cell)):
            raise _refused(row, name, f"{shown(cell)}; {problem}")
        if (before := ids.setdefault(str(cell), row)) != row:
            raise _refused(row, name, f"{shown(cell)}, the id of row {before} too; ids are given once")
    return list(ids)


def _texts(cells: Cells, name: str) -> list[str]:
    for row, cell in enumerate(cells):
        if cell is not None and not isinstance(cell, str):
            raise _refused(row, name, f"{_described(cell)}; a location is a text")
    return [str(cell or "") for cell in cells]


def _columns(cells: Mapping[str, Cells], given: Mapping[str, str]) -> Columns:
    kinds = {str(kind) for kind in FieldType}
    for name, kind in given.items():
        if kind not in kinds:
            raise InvalidArgument(
                f"schema.{name} is {kind!r}; it is one of {', '.join(sorted(kinds))}", field="schema"
            )
    types = ColumnTypes()
    for name, column in cells.items():
        for row, cell in enumerate(column):
            if isinstance(cell, Unsupported):
                raise _refused(
                    row, name, f"{cell.what}, which no payload field can; leave the column out of `fields`"
                )
            if cell is not None:
                types.see({name: cell}, row)
    columns = types.columns({name: FieldType(kind) for name, kind in given.items() if name in cells}, cells)
    if columns.notes:
        # A column that would become something else than what it is.
        raise InvalidArgument(
            f"{columns.notes[0]}; name its type in `schema`, or leave it out of `fields`", field="frame"
        )
    return columns


def _payload(columns: Columns, cells: Mapping[str, Cells], row: int) -> dict[str, object]:
    own = {name: column[row] for name, column in cells.items() if column[row] is not None}
    try:
        stored = columns.payload(own)
    except UnusableValue as error:
        raise InvalidArgument(f"row {row}: {error}", reason="FIELD_INVALID", field="frame") from None
    return _sent(stored, columns)


def _sent(stored: Payload, columns: Columns) -> dict[str, object]:
    """Return a payload in the form of the client: moments and places as objects."""

    def one(value: Any, kind: FieldType | None) -> object:
        match kind:
            case FieldType.DATETIME:
                return parse_datetime(value)
            case FieldType.GEO:
                return GeoPoint(value["lat"], value["lon"])
        return value

    sent: dict[str, object] = {}
    for name, value in stored.items():
        # A column of empty lists alone has no type.
        kind = columns.schema.get(name)
        sent[name] = [one(each, kind) for each in value] if isinstance(value, list) else one(value, kind)
    return sent


def _described(cell: object) -> str:
    match cell:
        case BadCell(problem):
            return problem
        case Unsupported(what):
            return what
    return shown(cell)


def _refused(row: int, column: str, problem: str) -> InvalidArgument:
    return InvalidArgument(
        f"row {row}: column {column!r} holds {problem}", reason="FIELD_INVALID", field="frame"
    )
