"""Rows of a JSON Lines file: one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from indexer.rows import BadRow, Row
from indexer.text_file import LongLine, lines


def jsonl_rows(path: Path) -> Iterator[Row | BadRow]:
    """Rows in order; blank lines are passed over. Raises `SourceError` when the file is not UTF-8."""
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
