"""Feature files: the features of a data set's images or texts, written row by row, mapped when read.

A feature file is a safetensors file with one matrix, "features", so that other tools read it too. Its
metadata say whose rows they are and which model made them, and have a CRC-32 of the whole file, taken with
zeros in its own place.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from combiner_service.combiner import Float32
from service_runtime.files import commit_file

FORMAT_KEY = "cir_format"
FORMAT = "features/2"
CRC_KEY = "crc32"
# Before there was a checksum.
_OLDER_FORMAT = "features/1"
_NO_CRC = "00000000"
_CRC_PLACE = f'"{CRC_KEY}":"'.encode()
TENSOR = "features"
#: What safetensors' own readers take.
MAX_HEADER_BYTES = 100_000_000
_ALIGNMENT = 64
_DTYPES = {"F16": "<f2", "F32": "<f4"}


class FeatureFileError(ValueError):
    """A fault of feature files, or of how they fit a data set; the message says what to do."""


class FeatureKind(StrEnum):
    """Kind of the items that the rows are features of."""

    IMAGES = "images"
    TEXTS = "texts"


@dataclass(frozen=True, slots=True)
class FeatureHeader:
    """Description of a file's (n, d) matrix of raw features.

    `names` are image names or whole texts, unique, one for each row. `model` has what is known of the model
    besides its fingerprint: architecture, weights, preprocessing, target ratio, image size. `dtype` is
    float16 or float32.
    """

    kind: FeatureKind
    names: tuple[str, ...]
    dimension: int
    dtype: np.dtype[np.floating]
    model_fingerprint: str
    model: Mapping[str, str]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dimension * self.dtype.itemsize


def header_to_bytes(header: FeatureHeader) -> bytes:
    """Return everything before the matrix.

    Raises:
        FeatureFileError: There are no rows, or the names are too long for a header.
    """
    count, dimension = len(header.names), header.dimension
    if not count or not dimension:
        raise FeatureFileError(
            f"{count} rows of {dimension} values make no feature file; expected at least one"
        )
    code = next(code for code, dtype in _DTYPES.items() if np.dtype(dtype) == header.dtype)
    document = {
        "__metadata__": {
            FORMAT_KEY: FORMAT,
            CRC_KEY: _NO_CRC,
            "kind": str(header.kind),
            "model_fingerprint": header.model_fingerprint,
            "model": json.dumps(dict(header.model), sort_keys=True),
            "names": json.dumps(header.names, ensure_ascii=False),
        },
        TENSOR: {
            "dtype": code,
            "shape": [count, dimension],
            "data_offsets": [0, count * header.row_bytes],
        },
    }
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    if len(text) > MAX_HEADER_BYTES:
        raise FeatureFileError(
            f"the names take {len(text)} bytes of header, at most {MAX_HEADER_BYTES} can be read; "
            "extract fewer splits into one folder"
        )
    return len(text).to_bytes(8, "little") + text


def header_from_bytes(text: bytes) -> FeatureHeader:
    """Read the JSON of a header.

    Raises:
        FeatureFileError: It is not the header of a feature file of this version.
    """
    try:
        document = json.loads(text)
        metadata, tensor = document["__metadata__"], document[TENSOR]
        expected = FORMAT if CRC_KEY in metadata else _OLDER_FORMAT
        if metadata[FORMAT_KEY] != expected:
            raise FeatureFileError(
                f"the header says {FORMAT_KEY}={metadata[FORMAT_KEY]!r}; this version reads {expected!r}"
            )
        names = tuple(json.loads(metadata["names"]))
        count, dimension = (int(size) for size in tensor["shape"])
        header = FeatureHeader(
            FeatureKind(metadata["kind"]),
            names,
            dimension,
            np.dtype(_DTYPES[tensor["dtype"]]),
            str(metadata["model_fingerprint"]),
            {str(key): str(value) for key, value in json.loads(metadata["model"]).items()},
        )
        whole = tensor["data_offsets"] == [0, count * header.row_bytes]
    except FeatureFileError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FeatureFileError(
            f"not a feature file ({type(error).__name__}: {error}); make one with: cir features extract"
        ) from None
    if not whole or count != len(names) or len(set(names)) != count or min(count, dimension) < 1:
        raise FeatureFileError(
            f"the header has {len(set(names))} names for {count} rows of {dimension} values; "
            "the file was put together from two, extract it again"
        )
    return header


def _crc_place(begin: bytes) -> int:
    """Position of the checksum in the bytes before the matrix, 0 for files without one.

    Quotes inside names and texts are escaped, so that only the key itself looks like this.
    """
    return begin.find(_CRC_PLACE) + len(_CRC_PLACE) if _CRC_PLACE in begin else 0


Rows = NDArray[np.int64]
_ROWS_AT_ONCE = 8192
_BYTES_AT_ONCE = 1 << 20


class FeatureTable:
    """The rows of a file by name. A row of NaN stands for an image or text that could not be embedded, and so
    does a row of zeros, which has no direction.

    `matrix` is (n, d) float16 or float32, raw features, a row for each name of `header`; `origin` names the
    file in messages.
    """

    def __init__(self, header: FeatureHeader, matrix: NDArray[np.floating], origin: str) -> None:
        self.header = header
        self.matrix = matrix
        self.origin = origin
        self._row_of = {name: row for row, name in enumerate(header.names)}
        # NaN rows are NaN from end to end: one column tells. Rows that may be zeros are read whole.
        first = np.asarray(matrix[:, 0])
        self.usable: NDArray[np.bool_] = np.isfinite(first)
        maybe = np.flatnonzero(first == 0)
        for start in range(0, len(maybe), _ROWS_AT_ONCE):
            part = maybe[start : start + _ROWS_AT_ONCE]
            self.usable[part] = matrix[part].any(axis=1)

    def __contains__(self, name: str) -> bool:
        return name in self._row_of

    def usable_row(self, name: str) -> int:
        """The row of a name, -1 where there is none or where it could not be embedded."""
        row = self._row_of.get(name, -1)
        return row if row >= 0 and self.usable[row] else -1

    def rows(self, names: Sequence[str]) -> Rows:
        """Return the row of each name, -1 where it could not be embedded.

        Raises:
            FeatureFileError: The file does not have a name: it was made from another data set, or before the
                data set grew.
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

    Raises:
        FeatureFileError: The file is not one, is cut short or altered, or has values that are not finite in a
            row that is not wholly NaN.
    """
    try:
        with path.open("rb") as file:
            header, start = _read_header(file, path)
            file.seek(0)
            begin = file.read(start)
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
    _check_rows(table, begin)
    return table


def _read_header(file: BinaryIO, path: Path) -> tuple[FeatureHeader, int]:
    """The header, and where the matrix begins."""
    length = file.read(8)
    count = int.from_bytes(length, "little")
    if len(length) < 8 or count > MAX_HEADER_BYTES:
        raise FeatureFileError(f"{path} is not a feature file; make one with: cir features extract")
    try:
        return header_from_bytes(file.read(count)), 8 + count
    except FeatureFileError as error:
        raise FeatureFileError(f"{path}: {error}") from None


def _check_rows(table: FeatureTable, begin: bytes) -> None:
    place = _crc_place(begin)
    crc = zlib.crc32(begin[:place] + _NO_CRC.encode() + begin[place + len(_NO_CRC) :])
    for start in range(0, len(table.matrix), _ROWS_AT_ONCE):
        part = np.asarray(table.matrix[start : start + _ROWS_AT_ONCE])
        crc = zlib.crc32(np.ascontiguousarray(part).data, crc)
        finite = np.isfinite(part)
        wrong = np.flatnonzero(finite.any(axis=1) & ~finite.all(axis=1))
        if wrong.size:
            raise FeatureFileError(
                f"{table.origin}: the features of {table.header.names[start + wrong[0]]!r} have values that "
                "are not finite; extract them again with --dtype float32 --fresh"
            )
    if place and begin[place : place + len(_NO_CRC)] != f"{crc:08x}".encode():
        raise FeatureFileError(
            f"{table.origin} is damaged: its checksum is not that of its content; copy it again or extract "
            "it again"
        )


_ENDING = ".partial"


class FeatureWriter:
    """Writer that appends rows to `path`.partial, and renames it when all are there.

    The header is written first and fixes names, model and type; how many rows follow it is how far the work
    has come. A partial file with another header belongs to other work and is begun anew. What was there under
    `path` stays until the new file is whole.
    """

    def __init__(self, path: Path, header: FeatureHeader) -> None:
        self._path = path
        self._partial = path.with_name(path.name + _ENDING)
        self._header = header
        begin = header_to_bytes(header)
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

        Raises:
            FeatureFileError: The rows have another d, or are more than the names.
            OSError: The disk is full, for example; what was written before stays good.
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
        """Give the file its name.

        Raises:
            FeatureFileError: Rows are missing.
        """
        if self.done != len(self._header.names):
            raise FeatureFileError(
                f"{self.done} of {len(self._header.names)} rows are written; append the rest"
            )
        self._file.close()
        begin = header_to_bytes(self._header)
        crc = zlib.crc32(begin)
        with self._partial.open("rb+") as file:
            file.seek(len(begin))
            while chunk := file.read(_BYTES_AT_ONCE):
                crc = zlib.crc32(chunk, crc)
            file.seek(_crc_place(begin))
            file.write(f"{crc:08x}".encode())
        commit_file(self._partial, self._path)

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


@dataclass(frozen=True, slots=True)
class FeatureFolder:
    """Both files, opened and checked against each other."""

    images: FeatureTable
    texts: FeatureTable

    @property
    def model_fingerprint(self) -> str:
        """Fingerprint of the model that made all features."""
        return self.images.header.model_fingerprint

    @property
    def dimension(self) -> int:
        """Values of one feature."""
        return self.images.header.dimension


def open_folder(folder: Path) -> FeatureFolder:
    """Open what `cir features extract` wrote.

    Raises:
        FeatureFileError: A file cannot be used, or images and texts are of two models.
    """
    images, texts = (read_table(path) for path in paths_of(folder))
    for table, kind in ((images, FeatureKind.IMAGES), (texts, FeatureKind.TEXTS)):
        if table.header.kind is not kind:
            raise FeatureFileError(f"{table.origin} holds {table.header.kind}; expected {kind}")
    if images.header.model_fingerprint != texts.header.model_fingerprint:
        raise FeatureFileError(
            f"the images of {folder} are of model {images.header.model_fingerprint}, the texts of "
            f"{texts.header.model_fingerprint}; extract them again with one model"
        )
    if images.header.dimension != texts.header.dimension:
        raise FeatureFileError(
            f"the images of {folder} have {images.header.dimension} values, the texts "
            f"{texts.header.dimension}; extract them again with one model"
        )
    return FeatureFolder(images, texts)


def paths_of(folder: Path) -> tuple[Path, Path]:
    """The files of images and of texts in a folder of features."""
    return folder / f"{FeatureKind.IMAGES}.safetensors", folder / f"{FeatureKind.TEXTS}.safetensors"
