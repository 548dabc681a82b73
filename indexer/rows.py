"""Rows of a manifest, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


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
