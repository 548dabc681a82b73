"""Writing a feature file row by row, so that a run that was killed goes on where it was."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from combiner_service.feature_files.header import FeatureFileError, FeatureHeader, to_bytes
from combiner_service.features import Float32

_ENDING = ".partial"


class FeatureWriter:
    """Appends rows to `path`.partial, and renames it when all are there.

    The header is written first and fixes names, model and type; how many rows follow it is how far the work
    has come. A partial file with another header belongs to other work and is begun anew. What was there under
    `path` stays until the new file is whole.
    """

    def __init__(self, path: Path, header: FeatureHeader) -> None:
        self._path = path
        self._partial = path.with_name(path.name + _ENDING)
        self._header = header
        begin = to_bytes(header)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._partial.open("ab+")
        self._file.seek(0)
        written = self._file.seek(0, os.SEEK_END) - len(begin)
        self._file.seek(0)
        same = written >= 0 and self._file.read(len(begin)) == begin
        #: Rows that are there already.
        self.done = written // header.row_bytes if same else 0
        if self.done > len(header.names):
            self.done = 0
        self._file.truncate(len(begin) + self.done * header.row_bytes if same else 0)
        if not same:
            self._file.write(begin)
        self._flush()

    def append(self, features: Float32) -> None:
        """Write the next rows, (n, d), and have the disk hold them; NaN rows for what could not be embedded.

        Raises FeatureFileError for another d or more rows than names, OSError for a full disk: what was
        written before stays good.
        """
        if features.ndim != 2 or features.shape[1] != self._header.dimension:
            raise FeatureFileError(
                f"the model gave features of shape {features.shape}; expected rows of "
                f"{self._header.dimension} values"
            )
        if self.done + len(features) > len(self._header.names):
            raise FeatureFileError("more rows than names; expected one row for each name")
        if self._header.dtype.itemsize == 2:
            largest = float(np.finfo(np.float16).max)
            features = np.clip(features, -largest, largest)
        self._file.write(np.ascontiguousarray(features, self._header.dtype).tobytes())
        self._flush()
        self.done += len(features)

    def finish(self) -> None:
        """Give the file its name. Raises FeatureFileError while rows are missing."""
        if self.done != len(self._header.names):
            raise FeatureFileError(
                f"{self.done} of {len(self._header.names)} rows are written; append the rest"
            )
        self._file.close()
        self._partial.replace(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError:
            if error is None:
                raise

    def _flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
