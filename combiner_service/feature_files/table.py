"""Reading a feature file: rows by name, mapped into memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from combiner_service.feature_files.header import (
    MAX_HEADER_BYTES,
    FeatureFileError,
    FeatureHeader,
    from_bytes,
)
from combiner_service.features import Float32

Rows = NDArray[np.int64]
_ROWS_AT_ONCE = 8192


class FeatureTable:
    """The rows of a file by name. A row of NaN stands for an image or text that could not be embedded.

    Args:
        header: names and model.
        matrix: (n, d) float16 or float32 raw features, a row for each name.
        origin: the file, for messages.
    """

    def __init__(self, header: FeatureHeader, matrix: NDArray[np.floating], origin: str) -> None:
        self.header = header
        self.matrix = matrix
        self.origin = origin
        self._row_of = {name: row for row, name in enumerate(header.names)}
        # NaN rows are NaN from end to end: one column tells.
        self.usable: NDArray[np.bool_] = np.isfinite(np.asarray(matrix[:, 0]))

    def __contains__(self, name: str) -> bool:
        return name in self._row_of

    def usable_row(self, name: str) -> int:
        """The row of a name, -1 where there is none or where it could not be embedded."""
        row = self._row_of.get(name, -1)
        return row if row >= 0 and self.usable[row] else -1

    def rows(self, names: Sequence[str]) -> Rows:
        """The row of each name, -1 where it could not be embedded.

        Raises FeatureFileError for a name that the file does not have: it was made from another data set, or
        before the data set grew.
        """
        unknown = [name for name in names if name not in self._row_of]
        if unknown:
            raise FeatureFileError(
                f"{self.origin} has no features of {unknown[0]!r}"
                f"{f' and {len(unknown) - 1} more' if len(unknown) > 1 else ''}; extract the features of "
                "this data set again (what is there is not embedded anew)"
            )
        found = np.array([self._row_of[name] for name in names], np.int64)
        return np.where(self.usable[found], found, -1) if len(found) else found

    def take(self, rows: Rows) -> Float32:
        """(n,) rows -> (n, d) float32 raw features, copied."""
        taken: Float32 = self.matrix[rows].astype(np.float32)
        return taken


def read_table(path: Path) -> FeatureTable:
    """Open a feature file. Its rows stay on the disk until they are used.

    Raises FeatureFileError for a file that is not one, is cut short, or has values that are not finite in a
    row that is not wholly NaN.
    """
    try:
        with path.open("rb") as file:
            header, start = _read_header(file, path)
        size = path.stat().st_size
    except FileNotFoundError:
        raise FeatureFileError(f"{path} does not exist; make it with: cir features extract") from None
    except OSError as error:
        raise FeatureFileError(f"{path} cannot be read: {error.strerror or error}") from error
    expected = start + len(header.names) * header.row_bytes
    if size != expected:
        raise FeatureFileError(
            f"{path} has {size} bytes, its header claims {expected}; copy it again or extract it again"
        )
    matrix = np.memmap(path, header.dtype, "r", start, (len(header.names), header.dimension))
    table = FeatureTable(header, matrix, str(path))
    _check_rows(table)
    return table


def _read_header(file: BinaryIO, path: Path) -> tuple[FeatureHeader, int]:
    """The header, and where the matrix begins."""
    length = file.read(8)
    count = int.from_bytes(length, "little")
    if len(length) < 8 or count > MAX_HEADER_BYTES:
        raise FeatureFileError(f"{path} is no feature file; make one with: cir features extract")
    try:
        return from_bytes(file.read(count)), 8 + count
    except FeatureFileError as error:
        raise FeatureFileError(f"{path}: {error}") from None


def _check_rows(table: FeatureTable) -> None:
    for start in range(0, len(table.matrix), _ROWS_AT_ONCE):
        part = np.asarray(table.matrix[start : start + _ROWS_AT_ONCE])
        finite = np.isfinite(part)
        wrong = np.flatnonzero(finite.any(axis=1) & ~finite.all(axis=1))
        if wrong.size:
            raise FeatureFileError(
                f"{table.origin}: the features of {table.header.names[start + wrong[0]]!r} have values that "
                "are not finite; extract them again with float32"
            )
