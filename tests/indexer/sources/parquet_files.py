"""Parquet files for tests, and what a manifest of them gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from indexer.rejects import Reject
from indexer.sources.base import SourceItem
from indexer.sources.manifest import ManifestSource
from indexer.sources.parquet import parquet_rows

FAR = 253_402_300_800  # seconds from 1970 to the year 10000


def write(path: Path, columns: dict[str, Any] | pa.Table, **options: Any) -> Path:
    """Write columns, or a table, to `path`."""
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path, **options)
    return path


def cells(path: Path, values: Any, **options: Any) -> list[Any]:
    """Return the cells of one column that was written to a file."""
    write(path, {"c": values}, **options)
    return [row.cells.get("c") for row in parquet_rows(path)]


def with_images(values: Any) -> dict[str, Any]:
    """Return a column `c` of values beside one of images."""
    return {"image": [f"{number}.jpg" for number in range(len(values))], "c": values}


def payloads(source: ManifestSource) -> dict[str, Any]:
    """Return the payload of each item by its id."""
    return {item.id: dict(item.payload) for item in source.items() if isinstance(item, SourceItem)}


def rejects(source: ManifestSource) -> list[Reject]:
    """Return the rows that are no items."""
    return [item for item in source.items() if isinstance(item, Reject)]
