"""Rows of a JSON Lines or Parquet file, each with the words that name it in a message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from combiner_service.datasets.annotation import as_object, parse_json, read_text
from combiner_service.datasets.split import DatasetError

JSON_LINES = (".jsonl", ".ndjson")
PARQUET = ".parquet"

Row = dict[str, object]


def read_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """(where, row) in order; fields that are null are left out. Raises `DatasetError`."""
    ending = path.suffix.lower()
    if ending in JSON_LINES:
        yield from _json_lines(path)
    elif ending == PARQUET:
        yield from _parquet(path)
    else:
        raise DatasetError(f"{path} is of no known kind; expected {', '.join((*JSON_LINES, PARQUET))}")


def _json_lines(path: Path) -> Iterator[tuple[str, Row]]:
    # Not splitlines: JSON texts may hold line separators of Unicode.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, _without_nulls(as_object(parse_json(line, where), where))


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DatasetError(
            f"{path}: reading Parquet needs pyarrow; "
            "install the extra: pip install 'composed-image-retrieval[indexer]'"
        ) from error
    if not path.is_file():
        raise DatasetError(f"{path} does not exist; expected the annotation file there")
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", _without_nulls(row)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path} cannot be read as Parquet: {error}") from error


def _without_nulls(row: Row) -> Row:
    return {name: value for name, value in row.items() if value is not None}
