"""A manifest: a CSV, JSON Lines or Parquet file with a row for each item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from cir.member_names import PassedOver, reason_for_named
from indexer.errors import SourceError
from indexer.rejects import IMAGE_OUTSIDE_ROOT, ROW_MALFORMED, URL_NOT_ALLOWED, Reject
from indexer.sources.base import ImageRoot, OutsideRoot, Source, SourceFacts, SourceItem
from indexer.sources.columns import ColumnTypes, UnusableValue, payload_of
from indexer.sources.image_folders import ImageFolders
from indexer.sources.parquet import parquet_rows
from indexer.sources.passed_over import PassedOverCount
from indexer.sources.rows import BadRow, Row, RowReader, csv_rows, jsonl_rows
from indexer.sources.url import Fetching, UrlImage, UrlNotAllowed
from vector_store.types import FieldType, Payload

_READERS: dict[str, RowReader] = {
    ".csv": csv_rows,
    ".tsv": csv_rows,
    ".jsonl": jsonl_rows,
    ".ndjson": jsonl_rows,
    ".parquet": parquet_rows,
}
ID, IMAGE = "id", "image"
MAX_COLUMNS = 1_000


class ManifestSource(Source):
    """Rows with a column `image`, a column `id` if there is one, and all others as payload.

    `image` is a path relative to `root` (default: the manifest's folder), which it may not leave. Without
    an `id` the path as written is the id. An http:// or https:// address is fetched from the hosts that
    `fetching` allows, which are none unless it is given; the address is the location that is stored. Payload
    types are found from all values (`column_types`), except for those in `schema` and for `text_fields`,
    which are searched by word. The manifest is read a row at a time: by `survey` for types and count, and by
    each `items()`, which a run that builds a version calls two times (for the plan and for the build).
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
        self._schema: Mapping[str, FieldType] | None = None
        self.rejects_path = self._path.with_name(f"{self._path.name}.rejects.jsonl")

    def survey(self) -> SourceFacts:
        """Find the types and count the rows.

        Raises:
            SourceError: a manifest that is missing, empty, not UTF-8, without a column `image`, with values
                that no payload can hold, or whose root or typed column is not there.
        """
        if not self._path.is_file():
            raise SourceError(f"manifest {self.name} does not exist or is no file")
        if not self._root.path.is_dir():
            raise SourceError(f"root {self._root.path} of manifest {self.name} is no folder")
        types, total, columns = ColumnTypes(), 0, set[str]()
        folders, passed_over = ImageFolders(self._root), PassedOverCount()
        for row in self._rows(self._path):
            if reason := _reason_to_pass_over(row):
                passed_over.add(reason, _image_of(row))
                continue
            total += 1
            if isinstance(row, BadRow):
                continue
            columns |= row.cells.keys()
            if isinstance(image := row.cells.get(IMAGE), str) and "://" not in image:
                folders.add(image.strip())
            if len(columns) > MAX_COLUMNS:
                raise SourceError(
                    f"manifest {self.name} has more than {MAX_COLUMNS} columns by row {row.number}; leave "
                    "out those that nobody needs"
                )
            try:
                types.see(_payload_cells(row), row.number)
            except UnusableValue as error:
                raise SourceError(f"manifest {self.name}, row {row.number}: {error}") from None
        self._check_columns(columns, total)
        try:
            schema, notes = types.schema(self._given)
        except UnusableValue as error:
            raise SourceError(f"manifest {self.name}: {error}") from None
        self._schema = schema
        return SourceFacts(
            total=total,
            schema=schema,
            notes=tuple(notes),
            image_folders=folders.folded(),
            passed_over=passed_over.files(),
        )

    def items(self) -> Iterator[SourceItem | Reject]:
        """The rows as items; `survey` comes first where it was not called yet."""
        schema = self._schema if self._schema is not None else self.survey().schema
        for row in self._rows(self._path):
            if not _reason_to_pass_over(row):
                yield self._item(row, schema)

    def _item(self, row: Row | BadRow, schema: Mapping[str, FieldType]) -> SourceItem | Reject:
        if isinstance(row, BadRow):
            return Reject("", "", ROW_MALFORMED, f"row {row.number}: {row.problem}")
        image = row.cells.get(IMAGE)
        item_id = _id_text(row.cells.get(ID, image))
        if not isinstance(image, str) or not image.strip():
            message = f"row {row.number}: column 'image' is empty or no text; expected a file path"
            return Reject(item_id, "", ROW_MALFORMED, message)
        payload = payload_of(_payload_cells(row), schema)
        if image.strip().lower().startswith(("http://", "https://")):
            return self._web_item(row, item_id, image.strip(), payload)
        try:
            path, relative = self._root.resolve(str(image).strip())
        except OutsideRoot as error:
            return Reject(item_id, str(image), IMAGE_OUTSIDE_ROOT, f"row {row.number}: {error}")
        return SourceItem(item_id, path, self._root.location(relative), payload)

    def _web_item(self, row: Row, item_id: str, url: str, payload: Payload) -> SourceItem | Reject:
        try:
            self._fetching.rules.check_url(url)
        except UrlNotAllowed as error:
            return Reject(item_id, url, URL_NOT_ALLOWED, f"row {row.number}: {error}")
        return SourceItem(item_id, UrlImage(str(url), self._fetching), str(url), payload)

    def _check_columns(self, columns: set[str], total: int) -> None:
        if not total:
            raise SourceError(f"manifest {self.name} has no rows")
        if IMAGE not in columns:
            listed = ", ".join(sorted(columns)) or "none"
            raise SourceError(
                f"manifest {self.name} has no column 'image' with values (columns: {listed}); "
                "expected a path for each row"
            )
        if unknown := sorted(self._given.keys() - (columns - {ID, IMAGE})):
            listed = ", ".join(sorted(columns - {ID, IMAGE})) or "none"
            raise SourceError(
                f"manifest {self.name} has no payload column {unknown[0]!r} with values; there are: {listed}"
            )


def _image_of(row: Row | BadRow) -> str:
    image = None if isinstance(row, BadRow) else row.cells.get(IMAGE)
    return image.strip() if isinstance(image, str) else ""


def _reason_to_pass_over(row: Row | BadRow) -> PassedOver | None:
    return reason_for_named(_image_of(row))


def _payload_cells(row: Row) -> dict[str, object]:
    return {name: cell for name, cell in row.cells.items() if name not in (ID, IMAGE)}


def _id_text(value: object) -> str:
    """The id as text: numbers as they are written, all else empty, which no version takes."""
    if isinstance(value, str):
        return str(value).strip()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""
