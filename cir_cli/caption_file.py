"""Captions in a file: plain lines, or a field of JSON Lines such as an indexer's manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from combiner_training.datasets.base import DatasetError

_SHOWN = 10
#: Field of the caption unless another is named.
CAPTION_FIELD = "caption"


def is_json_lines(path: Path) -> bool:
    """Return true for a file of objects, false for one of plain captions."""
    return path.suffix == ".jsonl"


@dataclass(frozen=True, slots=True)
class CaptionFile:
    """Captions: a line each, or a field of each object of a JSON Lines file.

    `only` are fields and values that an object must have.
    """

    path: Path
    field: str
    only: tuple[tuple[str, str], ...] = ()

    def read(self) -> list[str]:
        """Return the captions in their order.

        Raises:
            DatasetError: A line is no JSON object, or has no such field; or none has the values of `only`.
            OSError: The file cannot be read.
        """
        return list(self._read())

    def _read(self) -> Iterator[str]:
        is_plain = not is_json_lines(self.path)
        seen: dict[str, set[str]] = {name: set() for name, _ in self.only}
        found = False
        for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines(), start=1):
            where = f"{self.path}, line {number}"
            if is_plain:
                yield line
            elif line.strip():
                entry = _object(line, where)
                for name in (self.field, *(name for name, _ in self.only)):
                    if name not in entry:
                        raise DatasetError(f"{where}: no field {name!r}; it has {', '.join(entry)}")
                for name, values in seen.items():
                    if len(values) <= _SHOWN:
                        values.add(str(entry[name]))
                if all(str(entry[name]) == value for name, value in self.only):
                    found = True
                    yield str(entry[self.field])
        if self.only and not found:
            wanted = " and ".join(f"{name}={value}" for name, value in self.only)
            there = "; ".join(
                f"{name} is {', '.join(sorted(values)[:_SHOWN])}{', ...' if len(values) > _SHOWN else ''}"
                for name, values in seen.items()
            )
            raise DatasetError(f"{self.path} has no line with {wanted}; {there}")


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where}: no JSON ({error})") from error
    if not isinstance(entry, dict):
        raise DatasetError(f"{where}: expected a JSON object")
    return entry
