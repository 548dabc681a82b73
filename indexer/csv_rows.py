"""Rows of a CSV file: comma, semicolon or tab, quoted as spreadsheets do, first line the column names."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from indexer.errors import SourceError
from indexer.rows import BadRow, CellText, Row
from indexer.text_file import LongLine, lines

_DELIMITERS = ",;\t"


def csv_rows(path: Path) -> Iterator[Row | BadRow]:
    """Rows in order. A cell that is a JSON array, such as ["red","blue"], is a list; all others are texts.

    Raises `SourceError` for a file without usable column names, or with a fault after which nobody can tell
    where the next row begins.
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
