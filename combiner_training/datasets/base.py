"""Splits and queries of a data set, and reading annotation files whose faults name file and entry."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path, PurePosixPath
from typing import Any

from cir.extras import install

Box = tuple[float, float, float, float]
"""Left, top, width and height of a part of an image, in pixels."""


class DatasetError(ValueError):
    """A fault of a data set's folder or file; the message names the file and the line or entry."""


@dataclass(frozen=True, slots=True)
class Query:
    """One composed query of a split.

    `id` is unique in its split. `reference`, `targets` and `group` are image names. `texts` are the raw
    captions, at least one, an empty string where the annotation's is empty. `targets` holds every right
    answer and is empty where the answers are withheld, as in CIRR's test1. `group` is CIRR's subset with
    the reference, else empty.
    """

    id: str
    reference: str
    texts: tuple[str, ...]
    targets: tuple[str, ...] = ()
    group: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Split:
    """One split of a data set.

    `name` is like "val" or "dress/val". `gallery` holds unique names in the order of the annotation. `paths`
    has the expected file of every image that queries or gallery name, whether or not it exists; `crops` has
    those that are cut out of their file.
    """

    dataset: str
    name: str
    queries: tuple[Query, ...]
    gallery: tuple[str, ...]
    paths: Mapping[str, Path]
    crops: Mapping[str, Box] = dataclass_field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DialogueTurn:
    """A change, as text, and every image that is right after this and all earlier changes."""

    text: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A reference and the turns that change it one after another. Names are image names.

    An empty reference begins with words: the first turn's text is searched for, the others change it.
    """

    id: str
    reference: str
    turns: tuple[DialogueTurn, ...]


def read_json(path: Path) -> object:
    """Read the value in a JSON file (UTF-8).

    Raises:
        DatasetError: The file cannot be read, or an object has a key twice.
    """
    return parse_json(read_text(path), str(path))


def read_text(path: Path) -> str:
    """Read the text of a UTF-8 file, without a byte order mark.

    Raises:
        DatasetError: The file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist; expected the annotation file there") from None
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not UTF-8: byte {error.start} is not a character") from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error


def parse_json(text: str, where: str) -> object:
    """Parse a JSON text.

    Raises:
        DatasetError: The text is not JSON; the message begins with `where`.
    """
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _unique_keys(pairs, where))
    except DatasetError:
        raise
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where} is not JSON: {error}") from None


def _unique_keys(pairs: list[tuple[str, object]], where: str) -> dict[str, object]:
    if repeat := _first_repeat([key for key, _ in pairs]):
        raise DatasetError(f"{where} has the key {repeat[1]!r} twice in one object; keys must be unique")
    return dict(pairs)


def as_list(value: object, where: str) -> list[object]:
    """Return `value`, which must be a JSON array.

    Raises:
        DatasetError: It is not.
    """
    if not isinstance(value, list):
        raise DatasetError(f"{where} is a JSON {_json_type(value)}; expected an array")
    return value


def as_object(value: object, where: str) -> dict[str, object]:
    """Return `value`, which must be a JSON object.

    Raises:
        DatasetError: It is not.
    """
    if not isinstance(value, dict):
        raise DatasetError(f"{where} is a JSON {_json_type(value)}; expected an object")
    return value


def field(entry: dict[str, object], name: str, where: str) -> object:
    """Return a field that must be there.

    Raises:
        DatasetError: It is not.
    """
    if name not in entry:
        listed = ", ".join(sorted(entry)) or "none"
        raise DatasetError(f"{where} has no field {name!r} (fields: {listed})")
    return entry[name]


def as_text(value: object, where: str) -> str:
    """Return `value`, which must be a string; it may be empty.

    Raises:
        DatasetError: It is not.
    """
    if not isinstance(value, str):
        raise DatasetError(f"{where} is a JSON {_json_type(value)}; expected a string")
    return value


def as_whole_number(value: object, where: str) -> int:
    """Return `value`, which must be a whole number of at least 0.

    Raises:
        DatasetError: It is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise DatasetError(f"{where} is {value!r:.40}; expected a whole number")
    return value


def as_number(value: object, where: str) -> float:
    """Return `value`, which must be a finite number.

    Raises:
        DatasetError: It is not.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise DatasetError(f"{where} is {value!r:.40}; expected a number")
    return float(value)


def as_name(value: object, where: str) -> str:
    """Return `value`, which must be an image's name: a relative path that never goes up.

    Raises:
        DatasetError: It is not.
    """
    name = as_text(value, where)
    parts = PurePosixPath(name).parts
    if (
        not name.strip()
        or name.startswith("/")
        or ".." in parts
        or not parts
        or any(character in name for character in "\\\0\r\n")
        or (len(name) > 1 and name[1] == ":")
    ):
        raise DatasetError(f"{where} is {name!r}, which is not a usable image name; expected a relative path")
    return name


def unique(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the names as they are.

    Raises:
        DatasetError: A name comes twice.
    """
    if repeat := _first_repeat(names):
        number, name = repeat
        raise DatasetError(f"{where} has {name!r} a second time as entry {number}; names must be unique")
    return tuple(names)


def _first_repeat(names: Sequence[str]) -> tuple[int, str] | None:
    seen: set[str] = set()
    for number, name in enumerate(names, start=1):
        if name in seen:
            return number, name
        seen.add(name)
    return None


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, in the order of its first appearance."""
    return tuple(dict.fromkeys(names))


_ANNOTATION = ("captions", "image_splits")


def find_folder(root: Path, dataset: str, below: Sequence[str]) -> Path:
    """Return the folder with the annotation's `captions` and `image_splits`: `root`, or one below it.

    Raises:
        DatasetError: There is none.
    """
    if not root.is_dir():
        raise DatasetError(f"{root} does not exist or is not a folder; expected the {dataset} folder")
    for folder in (root, *(root / name for name in below)):
        if all((folder / name).is_dir() for name in _ANNOTATION):
            return folder
    missing = next(name for name in _ANNOTATION if not (root / name).is_dir())
    raise DatasetError(
        f"{root} has no folder {missing!r}; expected the {dataset} layout with {', '.join(_ANNOTATION)}, "
        f"there or below {' or '.join(below)}"
    )


def _json_type(value: object) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


JSON_LINES = (".jsonl", ".ndjson")
PARQUET = ".parquet"

Row = dict[str, object]


def read_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield (where, row) in order; fields that are null are left out.

    Raises:
        DatasetError: The file or a row cannot be read.
    """
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
        raise DatasetError(f"{path}: reading Parquet needs pyarrow; {install('parquet')}") from error
    if not path.is_file():
        raise DatasetError(f"{path} does not exist; expected the annotation file there")
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            if repeat := _first_repeat(file.schema_arrow.names):
                raise DatasetError(f"{path} has the column {repeat[1]!r} twice; names must be unique")
            for batch in file.iter_batches():
                for row in _python_rows(batch):
                    number += 1
                    where = f"{path}, row {number}"
                    if isinstance(row, Exception):
                        raise DatasetError(f"{where} holds a value that cannot be read: {row}") from row
                    yield where, _without_nulls(row)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as Parquet: {error}") from error


def _python_rows(batch: Any) -> Iterator[Row | Exception]:
    """Yield the rows of an Arrow batch; the first that Python cannot hold as its error, which ends them."""
    try:
        yield from batch.to_pylist()
        return
    except (ValueError, OverflowError):
        pass  # bytes that are not UTF-8, moments of far years
    for position in range(batch.num_rows):
        try:
            (row,) = batch.slice(position, 1).to_pylist()
        except (ValueError, OverflowError) as error:
            yield error
            return
        yield row


def _without_nulls(row: Row) -> Row:
    return {name: value for name, value in row.items() if value is not None}
