"""Rows of a Parquet file, read a batch at a time. Imports pyarrow when it is called."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from indexer.errors import SourceError
from indexer.sources.rows import BadRow, Row

_BATCH_ROWS = 1024


def parquet_rows(path: Path) -> Iterator[Row | BadRow]:
    """Rows in order. Dates and timestamps become RFC 3339 texts (without a zone: UTC), decimals floats.

    Raises:
        SourceError: pyarrow is missing, or the file is no Parquet or is damaged.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise SourceError(
            f"manifest {path}: reading Parquet needs pyarrow; "
            "install the extra: pip install 'composed-image-retrieval[indexer]'"
        ) from error
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if len(set(names)) != len(names):
                raise SourceError(f"manifest {path} has a column name twice; names must be unique")
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                columns = [_values(column) for column in batch.columns]
                for values in zip(*columns, strict=True):
                    number += 1
                    yield Row(number, dict(_cells(names, values)))
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"manifest {path} cannot be read as Parquet: {error}") from error


def _values(column: Any) -> list[object]:
    import pyarrow as pa

    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        # Python's datetime has microseconds.
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    values: list[object] = column.to_pylist()
    return values


def _cells(names: list[str], values: tuple[object, ...]) -> Iterator[tuple[str, object]]:
    for name, value in zip(names, values, strict=True):
        plain = _plain(value)
        if plain is not None and plain != "":
            yield name, plain


def _plain(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat() if value.tzinfo else f"{value.isoformat()}Z"
        case date():
            return value.isoformat()
        case Decimal():
            return float(value)
        case float() if math.isnan(value):
            return None  # how data frames write an empty cell
        case list():
            return [_plain(element) for element in value]
        case dict():
            return {key: _plain(element) for key, element in value.items()}
    return value
