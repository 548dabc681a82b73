"""Rows of a manifest, whatever its format, and the readers of text formats: CSV and JSON Lines."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from indexer.errors import SourceError


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `number` counts from 1 as an editor would (lines for text formats).

    `cells` holds the values that are there, by column: typed as in the file, and `CellText` where the format
    knows no types. Empty cells and nulls are absent.
    """

    number: int
    cells: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read, though the ones around it can."""

    number: int
    problem: str


class CellText(str):
    """The text of a cell in a format without types, where '12' may mean a number."""

    __slots__ = ()


RowReader = Callable[[Path], Iterator[Row | BadRow]]


MAX_LINE_BYTES = 1024 * 1024


class LongLine:
    """Stands for a line of more than `MAX_LINE_BYTES`, which was skipped."""


def lines(path: Path) -> Iterator[str | LongLine]:
    """The lines of a file with their ends, without a byte order mark; never more than one in memory.

    Raises:
        SourceError: the file cannot be read or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while raw := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(raw) > MAX_LINE_BYTES:
                    while raw and not raw.endswith(b"\n"):
                        raw = file.readline(MAX_LINE_BYTES)
                    yield LongLine()
                    continue
                yield _decode(raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw, path, number)
    except OSError as error:
        raise SourceError(f"manifest {path} cannot be read: {error.strerror}") from error


def _decode(raw: bytes, path: Path, number: int) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"manifest {path} is not UTF-8: line {number} has byte 0x{raw[error.start]:02x}; "
            "save it as UTF-8 and try again"
        ) from None
    if "\0" in text:
        raise SourceError(
            f"manifest {path} is no text in UTF-8: line {number} has a zero byte (UTF-16?); "
            "save it as UTF-8 and try again"
        )
    return text


_DELIMITERS = ",;\t"


def csv_rows(path: Path) -> Iterator[Row | BadRow]:
    """Rows in order. A cell that is a JSON array, such as ["red","blue"], is a list; all others are texts.

    Raises:
        SourceError: a file without usable column names, or with a fault after which nobody can tell where the
            next row begins.
    """
    text = _whole_lines(path)
    header = next(text, "")
    if not header.strip():
        raise SourceError(f"manifest {path} is empty; expected a first line with column names")
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.reader(_chain(header, text), delimiter=delimiter, strict=True)
    try:
        names = [name.strip() for name in next(reader)]
        _check_names(names, path)
        for values in reader:
            if not values:
                continue
            if len(values) != len(names):
                # Which cell belongs to which column would be a guess.
                yield BadRow(reader.line_num, f"the row has {len(values)} cells, the first line {len(names)}")
                continue
            cells = {name: _cell(value) for name, value in zip(names, values, strict=True) if value.strip()}
            yield Row(reader.line_num, cells)
    except csv.Error as error:
        raise SourceError(f"manifest {path}, line {reader.line_num}: {error}; correct the file") from error


def _check_names(names: list[str], path: Path) -> None:
    if doubled := [name for name, count in Counter(names).items() if count > 1 and name]:
        raise SourceError(f"manifest {path} has column {doubled[0]!r} twice; names must be unique")
    if "" in names:
        raise SourceError(f"manifest {path}: column {names.index('') + 1} has no name in the first line")


def _whole_lines(path: Path) -> Iterator[str]:
    for number, line in enumerate(lines(path), start=1):
        if isinstance(line, LongLine):
            raise SourceError(f"manifest {path}, line {number}: longer than 1 MiB; correct the file")
        yield line


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _cell(value: str) -> object:
    if value.lstrip().startswith("["):
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            return CellText(value)
        if isinstance(parsed, list):
            return parsed
    return CellText(value)


def jsonl_rows(path: Path) -> Iterator[Row | BadRow]:
    """Rows in order; blank lines are passed over.

    Raises:
        SourceError: the file is not UTF-8.
    """
    for number, line in enumerate(lines(path), start=1):
        if isinstance(line, LongLine):
            yield BadRow(number, "the line is longer than 1 MiB")
        elif line.strip():
            yield _row(number, line)


def _row(number: int, line: str) -> Row | BadRow:
    try:
        value = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        return BadRow(number, f"the line is no JSON: {error}")
    if not isinstance(value, dict):
        return BadRow(number, f"the line is a JSON {type(value).__name__}; expected an object")
    return Row(number, {name: cell for name, cell in value.items() if cell is not None and cell != ""})


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no JSON number")
