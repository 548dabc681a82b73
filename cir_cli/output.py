"""Output of commands: tables, JSON, answers of a search as text, and the progress of long work."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cir.models import Explanation, Item, Result, SearchAnswer, Timings, TurnExplanation
from cir.payload import GeoPoint, Value
from cir.vectors import Features
from cir_cli.errors import WrongUsage
from cir_cli.parse import marked

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

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


def check_can_ask(act: str, *, as_json: bool) -> None:
    """Refuse to go on where nobody can be asked whether to `act`.

    Raises:
        Failure: with --json, or where standard input is no terminal.
    """
    if as_json:
        raise WrongUsage(f"--json asks nothing; give --yes to {act}")
    if sys.stdin is None or not sys.stdin.isatty():
        raise WrongUsage(f"standard input is no terminal, and nobody can be asked; give --yes to {act}")


def print_json(document: Mapping[str, object]) -> None:
    """One indented JSON object on standard output: what --json prints, whatever the command."""
    print(json.dumps(document, indent=2, ensure_ascii=False, default=_plain))


def print_event(event: str, **facts: object) -> None:
    """One JSON object on a line of standard output, at once: what --json prints of a command that goes on."""
    print(json.dumps({"event": event, **facts}, ensure_ascii=False, default=_plain), flush=True)


def value_text(value: Value, kind: str = "") -> str:
    """A payload value for people: numbers with all their digits.

    With the `kind` of its field, as `--filter` and `--set` read it; else a text alone is shown as it is.
    """
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, GeoPoint):
        return f"{value.latitude!r},{value.longitude!r}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(
            marked(element) if isinstance(element, str) else value_text(element) for element in value
        )
    if isinstance(value, str) and kind:
        return marked(value, commas=kind != "text")
    return repr(value) if isinstance(value, float) else str(value)


def payload_text(payload: Mapping[str, Value], schema: Mapping[str, str] = MappingProxyType({})) -> str:
    """A payload on one line; values of fields of the schema as they are read again."""
    return " ".join(f"{name}={value_text(value, schema.get(name, ''))}" for name, value in payload.items())


def _plain(value: object) -> Any:
    if isinstance(value, Features):
        return value.values.tolist()
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a {type(value).__name__} has no JSON form")


# Shown first in the table of results, in this order; other fields follow as they stand in `Result`.
_FIRST_COLUMNS = ("rank", "score", "id")
# Too long for a table; in the JSON they are shown.
_NOT_IN_TABLE = ("image", "features", "explanation")


def answer_document(answer: SearchAnswer) -> dict[str, object]:
    """Return an answer for JSON: every field, but for vectors that nobody asked for."""
    return {**_given(answer), "results": [_given(result) for result in answer]}


def _given(value: SearchAnswer | Result) -> dict[str, object]:
    named = {each.name: getattr(value, each.name) for each in fields(value)}
    return {name: content for name, content in named.items() if content is not None}


def print_answer(answer: SearchAnswer) -> None:
    """Print the results as a table, then how they came about and where the time went."""
    out = console()
    others = [each.name for each in fields(Result) if each.name not in (*_FIRST_COLUMNS, *_NOT_IN_TABLE)]
    columns = (*_FIRST_COLUMNS, *others)
    rows = [[_cell(name, getattr(result, name)) for name in columns] for result in answer]
    if any(result.explanation is not None for result in answer):
        columns = (*_FIRST_COLUMNS, *_EXPLAINED_COLUMNS, *others)
        for row, result in zip(rows, answer, strict=True):
            row[len(_FIRST_COLUMNS) : len(_FIRST_COLUMNS)] = _explained(result, answer.explanation.reference)
    if rows:
        out.print(table(columns, rows, right=("rank", "score", *_EXPLAINED_COLUMNS[:2])))
    else:
        out.print("no item passes")
    for line in cut_texts(answer.explanation):
        out.print(line)
    out.print(f"{explanation_text(answer.explanation)}; {timings_text(answer.timings)}")


# Cosines to the text and to the image of the last turn, and what is other than in the reference.
_EXPLAINED_COLUMNS = ("to text", "to image", "changed", "kept")


def _explained(result: Result, reference: Item | None) -> list[str]:
    """Return the cells of `_EXPLAINED_COLUMNS`."""
    told = result.explanation
    if told is None:
        return [""] * len(_EXPLAINED_COLUMNS)
    cosines = [
        "" if each is None else f"{each:.2f}" for each in (told.text_similarity, told.image_similarity)
    ]
    before = reference.payload if reference is not None else {}
    changed = [
        f"{field}: {value_text(before.get(field))} -> {value_text(result.payload.get(field))}"
        for field in told.changed
    ]
    return [*cosines, ", ".join(changed), ", ".join(told.kept)]


def _cell(name: str, value: Any) -> str:
    if name == "score":
        return f"{value:.4f}"
    if isinstance(value, Mapping):
        return payload_text(value)
    return "" if value is None else value_text(value)


def cut_texts(explanation: Explanation) -> list[str]:
    """Return a line for each turn whose text was not read whole."""
    many = len(explanation.turns) > 1
    return [
        f"NOTE: the text{f' of turn {number}' if many else ''} has {turn.text_tokens} tokens, and the model "
        "reads "
        f"{turn.read_tokens}; what follows had no effect"
        for number, turn in enumerate(explanation.turns, start=1)
        if turn.text_tokens
    ]


def explanation_text(explanation: Explanation) -> str:
    """Text that says how each turn was taken, by which combiner, in which version."""
    turns = ", then ".join(_turn_text(turn) for turn in explanation.turns)
    combiner = f" by {explanation.combiner}" if explanation.combiner else ""
    feedback = f", feedback by {explanation.feedback}" if explanation.feedback else ""
    return f"{turns}{combiner}{feedback}; version {explanation.version}{_exactness(explanation)}"


def _turn_text(turn: TurnExplanation) -> str:
    told: list[str] = []
    if (gave := turn.contribution) is not None:
        text = round(100 * gave.text_share)
        told.append(f"image {100 - text} %, text {text} %")
        if gave.text_moved_little:
            told.append("the text moved little")
    if turn.network_lambda is not None:
        told.append(f"lambda {turn.network_lambda:.2f}")
    kind = turn.kind.replace("_", " ")
    return f"{kind} ({'; '.join(told)})" if told else kind


def _exactness(explanation: Explanation) -> str:
    if explanation.exact:
        return ", exact"
    if explanation.unindexed_items:
        return f", approximate, {explanation.unindexed_items} items are in no index yet"
    return "" if explanation.unindexed_items is None else ", approximate"


# Stages whose name on screen is shorter than the field's; they come first.
_STAGES = {"embed_images": "image", "embed_texts": "text"}


def _stage_order(name: str) -> int:
    return list(_STAGES).index(name) if name in _STAGES else len(_STAGES)


def timings_text(timings: Timings) -> str:
    """Return the milliseconds of each stage that happened."""
    names = sorted((each.name for each in fields(timings) if each.name != "total"), key=_stage_order)
    stages = {_STAGES.get(name, name): getattr(timings, name) for name in names}
    parts = ", ".join(
        f"{name} {seconds * 1000:.1f}" for name, seconds in stages.items() if seconds is not None
    )
    total = f"{timings.total * 1000:.1f} ms" if timings.total is not None else "unknown time"
    return f"{total} ({parts})" if parts else total


_LINE_EVERY_S = 10.0


def _bar(console: Console) -> Progress:
    # Only here: most commands show none.
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


class WorkProgress:
    """Tells a person on standard error; one piece of work after another."""

    def __init__(
        self,
        *,
        quiet: bool = False,
        file: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = sys.stderr if file is None else file
        self._quiet = quiet
        self._clock = clock
        console = Console(file=self._file)
        self._bar = _bar(console) if console.is_terminal and not quiet else None
        self._task: TaskID | None = None
        self._what, self._total, self._next = "", 0, 0.0

    def start(self, what: str, total: int) -> None:
        """`total` steps of `what` begin."""
        self._what, self._total, self._next = what, total, self._clock() + _LINE_EVERY_S
        if self._bar is not None:
            self._task = self._bar.add_task(what, total=total, note="")
            self._bar.start()

    def advance(self, done: int, note: str = "") -> None:
        """`done` of the steps are done."""
        if self._bar is not None:
            if self._task is not None:
                self._bar.update(self._task, completed=done, note=note)
            return
        if not self._quiet and (self._clock() >= self._next or done == self._total):
            self._next = self._clock() + _LINE_EVERY_S
            extra = f", {note}" if note else ""
            print(f"{self._what}: {done}/{self._total}{extra}", file=self._file, flush=True)

    def stop(self) -> None:
        """The work is over, well or badly."""
        if self._bar is not None:
            self._bar.stop()
