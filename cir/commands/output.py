"""What commands print: to people as text and tables, to programs as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cir.features import Features
from cir.values import GeoPoint, Value

_WIDTH_OF_A_PIPE = 10_000


def console() -> Console:
    """Standard output; no line is folded when it is no terminal, so that programs find whole values."""
    return Console(
        file=sys.stdout,
        width=None if sys.stdout.isatty() else _WIDTH_OF_A_PIPE,
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> Table:
    """A table of plain text; the columns in `right` are aligned to the right."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def print_json(value: object) -> None:
    """Indented JSON on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def value_text(value: Value) -> str:
    """A payload value for people."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, GeoPoint):
        return f"{value.latitude:g},{value.longitude:g}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(value_text(element) for element in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def payload_text(payload: Mapping[str, Value]) -> str:
    """A payload on one line."""
    return " ".join(f"{name}={value_text(value)}" for name, value in payload.items())


def _plain(value: object) -> Any:
    if isinstance(value, Features):
        return value.values.tolist()
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"a {type(value).__name__} has no JSON form")
