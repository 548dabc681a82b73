"""A manifest: a CSV, JSON Lines or Parquet file with a row for each item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

from cir.fields import EXACT_IN_FLOAT, FieldType, Payload
from cir.member_names import PassedOver, reason_for_named
from cir.tables.cells import BadCell, CellText, Unsupported, cell_of, is_whole, shown
from cir.tables.columns import Columns, ColumnTypes, UnusableValue
from indexer.errors import SourceError
from indexer.items import content_hash
from indexer.rejects import (
    ID_INVALID,
    IMAGE_OUTSIDE_ROOT,
    PAYLOAD_INVALID,
    ROW_MALFORMED,
    URL_NOT_ALLOWED,
    Reject,
)
from indexer.sources.base import ImageError, ImageRoot, OutsideRoot, Source, SourceFacts, SourceItem
from indexer.sources.image_folders import ImageFolders
from indexer.sources.parquet import ParquetImage, parquet_rows
from indexer.sources.passed_over import PassedOverCount
from indexer.sources.rows import ID, IMAGE, BadRow, Row, RowReader, csv_rows, jsonl_rows
from indexer.sources.url import UrlImage
from service_runtime.web_images import Fetching, UrlNotAllowed

_READERS: dict[str, RowReader] = {
    ".csv": csv_rows,
    ".tsv": csv_rows,
    ".jsonl": jsonl_rows,
    ".ndjson": jsonl_rows,
    ".parquet": parquet_rows,
}
MAX_COLUMNS = 1_000


class ManifestSource(Source):
    """Rows with a column `image`, a column `id` if there is one, and all others as payload.

    `image` is a path relative to `root` (default: the manifest's folder), which it may not leave. Without
    an `id` the path as written is the id. An http:// or https:// address is fetched from the hosts that
    `fetching` allows, which are none unless it is given; the address is the location that is stored. Payload
    types are found from all values (`cir.tables.columns`), except for those in `schema` and for
    `text_fields`, which are searched by word. A Parquet file may hold the images themselves; the id of one
    without a path is the hash of its bytes. The manifest is read a row at a time: by `survey` for types and
    count, and by each `items()`, which a run that builds a version calls two times (for the plan and for the
    build).
    """

    def __init__(
        self,
        path: Path,
        *,
        root: Path | None = None,
        image_base: str = "",
        schema: Mapping[str, FieldType] | None = None,
        text_fields: tuple[str, ...] = (),
        fetching: Fetching = Fetching(),
    ) -> None:
        if path.suffix.lower() not in _READERS:
            raise SourceError(f"manifest {path} is of no known kind; expected {', '.join(_READERS)}")
        self.name = str(path)
        self._path = path.resolve()
        self._rows = _READERS[path.suffix.lower()]
        self._root = ImageRoot(root or self._path.parent, image_base)
        self._fetching = fetching
        self._given = {**dict.fromkeys(text_fields, FieldType.TEXT), **(schema or {})}
        self._image_base = image_base
        self._columns: Columns | None = None
        self._chosen: frozenset[str] = frozenset()
        self.beside = self._path

    def survey(self, columns: Sequence[str] = ()) -> SourceFacts:
        """Find the types and count the rows.

        Raises:
            SourceError: a manifest that is missing, empty, unreadable, or without a column `image`, or whose
                root, typed column or chosen column is not there.
        """
        return self._survey(columns)[0]

    def _survey(self, columns: Sequence[str]) -> tuple[SourceFacts, Columns]:
        if not self._path.is_file():
            raise SourceError(f"manifest {self.name} does not exist or is no file")
        if not self._root.path.is_dir():
            raise SourceError(f"root {self._root.path} of manifest {self.name} is no folder")
        self._chosen = frozenset(columns)
        types, total, readable, names = ColumnTypes(), 0, 0, set[str]()
        folders, passed_over = ImageFolders(self._root), PassedOverCount()
        for row in self._rows(self._path, self._chosen):
            image = None if isinstance(row, BadRow) else _image_cell(row.cells.get(IMAGE))
            if reason := _reason_to_pass_over(image):
                passed_over.add(reason, str(image))
                continue
            total += 1
            if isinstance(row, BadRow):
                continue
            readable += 1
            names |= row.cells.keys()
            name = image.name if isinstance(image, ParquetImage) and self._image_base else image
            if isinstance(name, str) and name and "://" not in name:
                folders.add(name)
            if len(names) > MAX_COLUMNS:
                raise SourceError(
                    f"manifest {self.name} has more than {MAX_COLUMNS} columns by row {row.number}; choose "
                    "those that are needed with `columns`"
                )
            types.see(_payload_cells(row), row.number)
        found = types.columns(self._given, self._chosen)
        if not total:
            raise SourceError(f"manifest {self.name} has no rows")
        if readable:
            self._check_columns(names, found)
        self._columns = found
        facts = SourceFacts(
            total=total,
            schema=found.schema,
            notes=found.notes,
            image_folders=folders.folded(),
            passed_over=passed_over.files(),
        )
        return facts, found

    def items(self) -> Iterator[SourceItem | Reject]:
        """The rows as items; `survey` comes first where it was not called yet."""
        columns = self._columns or self._survey(())[1]
        for row in self._rows(self._path, self._chosen):
            if isinstance(row, BadRow):
                yield Reject("", "", ROW_MALFORMED, f"row {row.number}: {row.problem}")
            elif not _reason_to_pass_over(image := _image_cell(row.cells.get(IMAGE))):
                yield self._item(row, image, columns)

    def _item(self, row: Row, image: object, columns: Columns) -> SourceItem | Reject:
        where = f"row {row.number}"
        try:
            item_id = _id_text(row.cells[ID]) if ID in row.cells else _id_of_image(image)
        except UnusableValue as error:
            return Reject("", _location_text(image), ID_INVALID, f"{where}: {error}")
        except ImageError as error:
            return Reject("", str(image), error.reason, f"{where}: the image {error}", error.read)
        if not isinstance(image, (str, ParquetImage)):
            found = f"holds {_found(image)}" if image is not None else "is empty"
            message = f"{where}: column 'image' {found}; expected a file path or the bytes of an image"
            return Reject(item_id, "", ROW_MALFORMED, message)
        try:
            payload = columns.payload(_payload_cells(row))
        except UnusableValue as error:
            return Reject(item_id, _location_text(image), PAYLOAD_INVALID, f"{where}: {error}")
        if isinstance(image, ParquetImage):
            return SourceItem(item_id, image, self._embedded_location(image), payload, where)
        if image.lower().startswith(("http://", "https://")):
            return self._web_item(where, item_id, image, payload)
        try:
            path, relative = self._root.resolve(image)
        except OutsideRoot as error:
            return Reject(item_id, image, IMAGE_OUTSIDE_ROOT, f"{where}: {error}")
        return SourceItem(item_id, path, self._root.location(relative), payload, where)

    def _embedded_location(self, image: ParquetImage) -> str:
        """The place that its path has below the base, if there are both, else its row."""
        if self._image_base and image.name:
            with suppress(OutsideRoot):
                return self._root.location(self._root.resolve(image.name)[1])
        return str(image)

    def _web_item(self, where: str, item_id: str, url: str, payload: Payload) -> SourceItem | Reject:
        try:
            self._fetching.rules.check_url(url)
        except UrlNotAllowed as error:
            return Reject(item_id, url, URL_NOT_ALLOWED, f"{where}: {error}")
        return SourceItem(item_id, UrlImage(url, self._fetching), url, payload, where)

    def _check_columns(self, names: set[str], found: Columns) -> None:
        if IMAGE not in names:
            listed = ", ".join(sorted(names)) or "none"
            raise SourceError(
                f"manifest {self.name} has no column 'image' with values (columns: {listed}); "
                "expected a path for each row"
            )
        fields = names - {ID, IMAGE} - found.left_out
        if unknown := sorted(self._given.keys() - fields):
            listed = ", ".join(sorted(fields)) or "none"
            raise SourceError(
                f"manifest {self.name} has no payload column {unknown[0]!r} with values; there are: {listed}"
            )


def _payload_cells(row: Row) -> dict[str, object]:
    return {name: cell for name, cell in row.cells.items() if name not in (ID, IMAGE)}


def _image_cell(cell: object) -> object:
    """Return a path or an embedded image; the path of a {bytes, path} without bytes; all else as it is."""
    if isinstance(cell, Unsupported) and isinstance(cell.value, Mapping):
        members = cell.value
        if "path" in members and not members.keys() - {"bytes", "path"} and members.get("bytes") is None:
            cell = cell_of(members["path"])
    return _name(cell) if isinstance(cell, str) else cell


def _name(cell: str) -> str:
    """Return a name as it is meant: JSON and Parquet say it exactly, cells of a CSV have spaces around."""
    return str(cell).strip() if isinstance(cell, CellText) else cell


def _reason_to_pass_over(image: object) -> PassedOver | None:
    return reason_for_named(image) if isinstance(image, str) else None


def _location_text(image: object) -> str:
    return str(image) if isinstance(image, (str, ParquetImage)) else ""


def _id_of_image(image: object) -> str:
    """The path as written, of bytes without a path their hash, which is the same in every file and order."""
    if isinstance(image, ParquetImage):
        return image.name or content_hash(image.read(image.size))
    return image if isinstance(image, str) else ""


def _id_text(cell: object) -> str:
    """Return an id as text: a text (of a CSV without surrounding spaces), the digits of a whole number.

    Raises:
        UnusableValue: the cell is anything else.
    """
    if isinstance(cell, str):
        return _name(cell)
    match cell:
        case bool():
            pass
        case float() if abs(cell) >= EXACT_IN_FLOAT:  # nobody knows the digits that were meant
            pass
        case int() | float() | Decimal() if is_whole(cell):
            return str(int(cell))
    raise UnusableValue(f"column 'id' holds {_found(cell)}; expected a text or a whole number")


def _found(cell: object) -> str:
    match cell:
        case BadCell(problem):
            return problem
        case Unsupported(what):
            return what
        case float() if abs(cell) >= EXACT_IN_FLOAT:
            return f"{cell!r}, a float that does not tell all digits"
    return shown(cell)
