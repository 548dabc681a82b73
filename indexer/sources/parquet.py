"""Rows of a Parquet file, read a batch at a time, and the images that one holds. Imports pyarrow late."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cir.extras import install
from cir.tables.arrow_cells import Cells, Reading, column_cells, is_text, unsupported_cells
from indexer.errors import SourceError
from indexer.rejects import IMAGE_MISSING, IMAGE_NOT_READABLE
from indexer.sources.base import FileStat, ImageError, ImageRef, check_content, too_large
from indexer.sources.rows import ID, IMAGE, Row, check_chosen, check_unique, wanted

_BATCH_ROWS = 1024
# Bytes of a batch, and of batches of images kept, when rows are all of average size.
_BATCH_BYTES = 16 * 1024 * 1024
_KEPT_BYTES = 64 * 1024 * 1024
_KEPT_BATCHES = 2


def parquet_rows(path: Path, columns: Collection[str] = ()) -> Iterator[Row]:
    """Rows in order.

    An image that the file holds, as binary or as a struct {bytes, path} of Hugging Face's data sets, is a
    `ParquetImage`.

    Raises:
        SourceError: pyarrow is missing, or the file is no Parquet or is damaged.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise SourceError(f"manifest {path}: reading Parquet needs pyarrow; {install('parquet')}") from error
    number = 0
    try:
        with _File(path, columns) as file:
            for batch, millis in file.batches():
                cells = [
                    file.cells(name, column, None if millis is None else millis.column(position), number)
                    for position, (name, column) in enumerate(zip(file.names, batch.columns, strict=True))
                ]
                for values in zip(*cells, strict=True) if cells else [()] * batch.num_rows:
                    number += 1
                    pairs = zip(file.names, values, strict=True)
                    yield Row(number, {name: value for name, value in pairs if value is not None})
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception, column: str = "") -> SourceError:
    where, help = (f"column {column!r}: ", "; `columns` can choose others") if column else ("", "")
    return SourceError(f"manifest {path} cannot be read as Parquet: {where}{_one_line(error)}{help}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


class _File:
    """A Parquet file with the columns to read. INT96 moments are read twice, as no unit suits all of them."""

    def __init__(self, path: Path, columns: Collection[str]) -> None:
        self.path = path
        self._file = _open(path, "us")
        schema = self._file.schema_arrow
        check_chosen(columns, schema.names, path)
        wants = wanted(columns)
        self.names = [name for name in schema.names if wants(name)]
        check_unique(self.names, path)
        self._millis = _open(path, "ms") if "INT96" in _leaves(self._file, "physical_type").values() else None
        self._foreign = _foreign_types(self._file)
        self._julian = _is_julian(self._file)
        self._batch_rows = _batch_rows(self._file)
        self._images: _Images | None = None

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._file, self._millis):
            if file is not None:
                file.close()

    def batches(self) -> Iterator[tuple[Any, Any]]:
        """Batches of the columns `names`, each with the same rows in milliseconds where moments are INT96."""
        import pyarrow as pa

        found = self._read(self._file)
        try:
            if self._millis is None:
                for batch in found:
                    yield batch, None
            else:
                yield from zip(found, self._read(self._millis), strict=True)
        except pa.ArrowException:
            self._name_unreadable_column()
            raise

    def _name_unreadable_column(self) -> None:
        """Raise `SourceError` for the first column that cannot be read alone."""
        import pyarrow as pa

        for name in self.names:
            try:
                for _ in self._file.iter_batches(batch_size=self._batch_rows, columns=[name]):
                    pass
            except (pa.ArrowException, OSError) as error:
                raise _unreadable(self.path, error, name) from error

    def _read(self, file: Any) -> Iterator[Any]:
        # Group by group: lists of dictionaries cannot be read across the border of two.
        for group in range(file.metadata.num_row_groups):
            for batch in file.iter_batches(
                batch_size=self._batch_rows, row_groups=[group], columns=self.names
            ):
                # A name with a dot may bring columns along that nobody asked for.
                yield batch if batch.schema.names == self.names else batch.select(self.names)

    def cells(self, name: str, column: Any, millis: Any, first_row: int) -> Cells:
        """Return the cells of a column, whose first one is in row `first_row` from 0."""
        if name == IMAGE and (embedded := _embedded(column)) is not None:
            if self._images is None:
                self._images = _Images(self.path, self._batch_rows)
            return self._images.cells(*embedded, first_row)
        if name in self._foreign:
            return unsupported_cells(column, self._foreign[name])
        return column_cells(column, millis, Reading(binary=name == ID, julian=self._julian))


def _open(path: Path, int96_unit: str) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(path, coerce_int96_timestamp_unit=int96_unit, arrow_extensions_enabled=True)


def _leaves(file: Any, attribute: str) -> dict[str, Any]:
    schema = file.schema
    leaves = (schema.column(leaf) for leaf in range(len(schema)))
    return {leaf.path: getattr(leaf, attribute) for leaf in leaves}


def _is_julian(file: Any) -> bool:
    """Return whether moments of long ago were written by Spark in the calendar that it had before 3.0."""
    facts = file.metadata.metadata or {}
    old = facts.get(b"org.apache.spark.version", b"3").split(b".")[0] in (b"1", b"2")
    return old or any(f"org.apache.spark.legacy{of}".encode() in facts for of in ("DateTime", "INT96"))


def _foreign_types(file: Any) -> dict[str, str]:
    """Return the columns, and what they are, whose Arrow types do not tell what their values mean."""
    intervals = [path for path, kind in _leaves(file, "logical_type").items() if str(kind) == "Interval"]
    foreign = {}
    for field_ in file.schema_arrow:
        if any(path == field_.name or path.startswith(f"{field_.name}.") for path in intervals):
            foreign[field_.name] = "interval"
        elif extension := _unknown_extension(field_):
            foreign[field_.name] = extension
    return foreign


def _unknown_extension(field_: Any) -> str:
    name = (field_.metadata or {}).get(b"ARROW:extension:name")
    if name is not None and not is_text(field_.type):
        return str(name.decode(errors="replace"))
    inside = getattr(field_.type, "value_field", None)
    return _unknown_extension(inside) if inside is not None else ""


def _batch_rows(file: Any) -> int:
    metadata = file.metadata
    size: int = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    rows: int = _BATCH_BYTES * metadata.num_rows // max(1, size)
    return max(1, min(_BATCH_ROWS, rows))


def _embedded(column: Any) -> tuple[Any, Any] | None:
    """Return the arrays of bytes and paths (or None) of a column of images; None if it holds no bytes."""
    import pyarrow.types as pt

    kind = column.type
    tests = (pt.is_binary, pt.is_large_binary, pt.is_binary_view, pt.is_fixed_size_binary)
    if any(test(kind) for test in tests):
        return column, None
    if not pt.is_struct(kind):
        return None
    members = dict(zip((child.name for child in kind), column.flatten(), strict=True))
    content, names = members.get("bytes"), members.get("path")
    if content is None or members.keys() - {"bytes", "path"} or _embedded(content) is None:
        return None
    return content, names


@dataclass(slots=True, eq=False)
class _Images:
    """Images of a file's rows. Those of the batches read last are kept, others are read again when asked."""

    path: Path
    batch_rows: int
    kept: deque[tuple[int, Any]] = field(default_factory=deque)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def cells(self, content: Any, names: Any, first_row: int) -> Cells:
        """Return a reference for each image; its path, or None, where a row holds no bytes."""
        import pyarrow.compute as pc

        with self.lock:
            self._keep(first_row, content)
        paths = column_cells(names) if names is not None else [None] * len(content)
        cells: Cells = []
        for row, (size, path) in enumerate(zip(pc.binary_length(content).to_pylist(), paths, strict=True)):
            known = path if isinstance(path, str) else ""
            cells.append(path if not size else ParquetImage(self, first_row + row, size, known))
        return cells

    def content(self, row: int) -> bytes:
        """Return the bytes of the image in a row, counted from 0.

        Raises:
            ImageError: the file is gone or is another one by now.
        """
        import pyarrow as pa

        with self.lock:
            try:
                found = self._find(row)
                if found is None:
                    self._read_again(row)
                    found = self._find(row)
            except FileNotFoundError:
                raise ImageError(IMAGE_MISSING, "does not exist: its manifest is gone") from None
            except (pa.ArrowException, OSError) as error:
                raise ImageError(IMAGE_NOT_READABLE, f"cannot be read: {_one_line(error)}") from error
        if found is None:
            raise ImageError(IMAGE_NOT_READABLE, "is not in its manifest any more")
        return found

    def _find(self, row: int) -> bytes | None:
        for first, content in self.kept:
            if first <= row < first + len(content):
                value: bytes | None = content[row - first].as_py()
                return value
        return None

    def _keep(self, first_row: int, content: Any) -> None:
        self.kept.append((first_row, content))
        size = sum(array.nbytes for _, array in self.kept)
        while len(self.kept) > _KEPT_BATCHES and size > _KEPT_BYTES:
            size -= self.kept.popleft()[1].nbytes

    def _read_again(self, row: int) -> None:
        with _open(self.path, "us") as file:
            first = 0
            for group in range(file.metadata.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if row < first + rows:
                    break
                first += rows
            else:
                return
            for batch in file.iter_batches(batch_size=self.batch_rows, row_groups=[group], columns=[IMAGE]):
                if row < first + batch.num_rows:
                    embedded = _embedded(batch.column(batch.schema.get_field_index(IMAGE)))
                    if embedded is not None:
                        self._keep(first, embedded[0])
                    return
                first += batch.num_rows


@dataclass(frozen=True, slots=True)
class ParquetImage(ImageRef):
    """An image whose bytes stand in a row of a Parquet file; `name` is the path it came from, if known."""

    images: _Images = field(repr=False)
    row: int
    size: int
    name: str = ""

    def stat(self) -> FileStat:
        try:
            return FileStat(self.size, self.images.path.stat().st_mtime_ns)
        except FileNotFoundError:
            raise ImageError(IMAGE_MISSING, "does not exist: its manifest is gone") from None
        except OSError as error:
            raise ImageError(IMAGE_NOT_READABLE, f"cannot be read: {error.strerror}") from error

    def read(self, max_bytes: int) -> bytes:
        if self.size > max_bytes:
            raise too_large(self.size, max_bytes)
        return check_content(self.images.content(self.row), max_bytes)

    def __str__(self) -> str:
        return f"{self.images.path}!/row/{self.row + 1}"
