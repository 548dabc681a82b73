"""Dialogues: several changes in a row, each with the images that are right after it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from combiner_service.datasets.annotation import as_list, as_name, as_object, as_text, field, unique
from combiner_service.datasets.rows import read_rows
from combiner_service.datasets.split import DatasetError

#: What dialogues are called beside a manifest of triplets.
DIALOGUES_FILE = "dialogues.jsonl"


@dataclass(frozen=True, slots=True)
class DialogueTurn:
    """A change, as text, and every image that is right after this and all earlier changes."""

    text: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A reference and the turns that change it one after another. Names are image names."""

    id: str
    reference: str
    turns: tuple[DialogueTurn, ...]


def load_dialogues(path: Path, split: str | None = None, *, required: bool = True) -> tuple[Dialogue, ...]:
    """The dialogues of a JSON Lines file, in order; all of them unless a split is named.

    A row has `id`, `split`, `reference` and `turns`, each with `text` and `targets`. Raises `DatasetError`,
    also where there are no dialogues, unless none are `required`.
    """
    dialogues: list[Dialogue] = []
    for where, row in read_rows(path):
        turns = tuple(
            _turn(as_object(turn, where), f"{where}, turn {number}")
            for number, turn in enumerate(as_list(field(row, "turns", where), where), start=1)
        )
        if not turns:
            raise DatasetError(f"{where} has no turns")
        of_row = as_text(field(row, "split", where), f"{where}, split")
        dialogue = Dialogue(
            as_text(field(row, "id", where), f"{where}, id"),
            as_name(field(row, "reference", where), f"{where}, reference"),
            turns,
        )
        if split is None or of_row == split:
            dialogues.append(dialogue)
    if required and not dialogues:
        raise DatasetError(f"{path} has no dialogues{f' in split {split!r}' if split else ''}")
    unique([dialogue.id for dialogue in dialogues], f"{path}, ids")
    return tuple(dialogues)


def _turn(turn: dict[str, object], where: str) -> DialogueTurn:
    targets = as_list(field(turn, "targets", where), f"{where}, targets")
    return DialogueTurn(
        as_text(field(turn, "text", where), f"{where}, text"),
        tuple(as_name(name, f"{where}, targets") for name in targets),
    )
