"""Rows of a manifest, whatever its format, and the readers of text formats: CSV and JSON Lines."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cir.tables.cells import BadCell, CellText, cell_of, parse_json, text_cell
from indexer.errors import SourceError


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `number` counts from 1 as an editor would (lines for text formats).

    `cells` holds what is there by column, as `cir.tables.cells` defines it. Empty cells are absent.
    """

    number: int
    cells: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read, though the ones around it can."""

    number: int
    problem: str


ID, IMAGE = "id", "image"

# Rows of a file in order. The second argument has the payload columns to read, all where it is empty; id and
# image are read in any case. The reader raises `SourceError` for a column that the file does not have.
RowReader = Callable[[Path, Collection[str]], Iterator[Row | BadRow]]


def wanted(columns: Collection[str]) -> Callable[[str], bool]:
    """Return the test of a column's name for being read."""
    names = {*columns, ID, IMAGE}
    return lambda name: not columns or name in names


def check_chosen(columns: Collection[str], names: Collection[str], path: Path) -> None:
    """Raise `SourceError` for a chosen column that the file does not have."""
    if missing := sorted(set(columns) - set(names)):
        listed = ", ".join(sorted(names)) or "none"
        raise SourceError(f"manifest {path} has no column {missing[0]!r}; there are: {listed}")


def check_unique(names: Collection[str], path: Path) -> None:
    """Raise `SourceError` for two columns of one name."""
    if doubled := [name for name, count in Counter(names).items() if count > 1 and name]:
        raise SourceError(f"manifest {path} has column {doubled[0]!r} twice; names must be unique")


MAX_LINE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LongLine:
    """Stands for a line of more than `MAX_LINE_BYTES`, which was skipped, with the number of its quotes."""

    quotes: int


def lines(path: Path) -> Iterator[str | LongLine]:
    """The lines of a file with their ends, without a byte order mark; never more than one in memory.

    A byte that is not UTF-8 becomes half of a surrogate pair, which no cell can hold.

    Raises:
        SourceError: the file cannot be read, or its first line is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while raw := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(raw) > MAX_LINE_BYTES:
                    quotes = raw.count(b'"')
                    while raw and not raw.endswith(b"\n"):
                        raw = file.readline(MAX_LINE_BYTES)
                        quotes += raw.count(b'"')
                    yield LongLine(quotes)
                    continue
                if number == 1:
                    raw = raw.removeprefix(b"\xef\xbb\xbf")
                    _check_encoding(raw, path)
                yield raw.decode("utf-8", errors="surrogateescape")
    except OSError as error:
        raise SourceError(f"manifest {path} cannot be read: {error.strerror}") from error


def _check_encoding(raw: bytes, path: Path) -> None:
    try:
        raw.decode("utf-8")
        problem = "a zero byte (UTF-16?)" if b"\0" in raw else ""
    except UnicodeDecodeError as error:
        problem = f"byte 0x{raw[error.start]:02x}"
    if problem:
        raise SourceError(
            f"manifest {path} is not UTF-8: line 1 has {problem}; save it as UTF-8 and try again"
        )


_DELIMITERS = ",;\t"


def csv_rows(path: Path, columns: Collection[str] = ()) -> Iterator[Row | BadRow]:
    """Rows in order. A cell that is a JSON array, such as ["red","blue"], is a list; all others are texts.

    Raises:
        SourceError: a file without usable column names, or with a fault after which nobody can tell where the
            next row begins.
    """
    text = lines(path)
    header = next(text, "")
    if isinstance(header, LongLine):
        raise SourceError(f"manifest {path}: line 1 is longer than 1 MiB; expected column names")
    if not header.strip():
        raise SourceError(f"manifest {path} is empty; expected a first line with column names")
    # A setting of the whole process: its default would refuse texts that other formats may hold.
    csv.field_size_limit(MAX_LINE_BYTES)
    feed = _Lines(path, header, text)
    reader = csv.reader(feed, delimiter=max(_DELIMITERS, key=header.count), strict=True)
    names: list[str] = []
    wants = wanted(columns)
    while True:
        start = reader.line_num + 1
        try:
            values = next(reader, None)
            problem = feed.take_problem()
        except csv.Error as error:
            if not names or reader.line_num != start or not feed.closed:
                raise SourceError(
                    f"manifest {path}, line {reader.line_num}: {error}; correct the file"
                ) from error
            values, problem = [], str(error)
        if values is None:
            return
        if problem:
            yield BadRow(reader.line_num, problem)
        elif not names:
            names = [name.strip() for name in values]
            check_chosen(columns, names, path)
            check_unique([name for name in names if wants(name)], path)
        elif values and len(values) != len(names):
            # Which cell belongs to which column would be a guess.
            yield BadRow(reader.line_num, f"the row has {len(values)} cells, the first line {len(names)}")
        elif values:
            pairs = ((name, value) for name, value in zip(names, values, strict=True) if wants(name))
            yield Row(reader.line_num, _present((name, _csv_cell(value)) for name, value in pairs))


class _Lines:
    """Lines for the CSV reader. `closed` tells whether the last one ends outside of quotes if it began so."""

    def __init__(self, path: Path, first: str, rest: Iterator[str | LongLine]) -> None:
        self._path = path
        self._number = 1
        self._first: str | None = first
        self._rest = rest
        self._problem = ""
        self.closed = True

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._first is not None:
            line, self._first = self._first, None
            return line
        found = next(self._rest)
        self._number += 1
        if isinstance(found, str):
            self.closed = found.count('"') % 2 == 0
            return found
        if found.quotes % 2:
            raise SourceError(
                f"manifest {self._path}, line {self._number}: longer than 1 MiB, and a quote in it has no "
                "end; correct the file"
            )
        self.closed, self._problem = True, "the line is longer than 1 MiB"
        return "\n"

    def take_problem(self) -> str:
        """Return what is wrong with the lines of the row that was read last, once."""
        problem, self._problem = self._problem, ""
        return problem


def _present(cells: Iterator[tuple[str, object]]) -> dict[str, object]:
    return {name: cell for name, cell in cells if cell is not None}


def _csv_cell(value: str) -> object:
    if "\0" in value:
        return BadCell("a zero byte")
    if value.lstrip().startswith("["):
        try:
            parsed = parse_json(value)
        except ValueError:
            parsed = None
        if isinstance(parsed, list):
            return cell_of(parsed)
    return text_cell(CellText(value))


def jsonl_rows(path: Path, columns: Collection[str] = ()) -> Iterator[Row | BadRow]:
    """Rows in order; blank lines are passed over.

    Raises:
        SourceError: the file cannot be read or is no text in UTF-8.
    """
    wants = wanted(columns)
    missing, found = set(columns), set[str]()
    for number, line in enumerate(lines(path), start=1):
        if isinstance(line, LongLine):
            yield BadRow(number, "the line is longer than 1 MiB")
        elif line.strip():
            row = _json_row(number, line)
            if isinstance(row, Row):
                if missing:
                    found |= row.cells.keys()
                    missing -= row.cells.keys()
                row = Row(number, _present((name, cell) for name, cell in row.cells.items() if wants(name)))
            yield row
    if missing:
        check_chosen(columns, found, path)


def _json_row(number: int, line: str) -> Row | BadRow:
    try:
        value = parse_json(line)
    except ValueError as error:
        return BadRow(number, f"the line is no JSON: {error}")
    if isinstance(value, BadCell):
        return BadRow(number, f"the line has {value.problem}")
    if not isinstance(value, dict):
        return BadRow(number, f"the line is a JSON {type(value).__name__}; expected an object")
    return Row(number, {name: cell_of(cell) for name, cell in value.items()})
