"""Multi-turn FashionIQ (Yuan and Lam, SIGIR 2021): sessions of two to four turns over FashionIQ's images."""

from __future__ import annotations

from pathlib import Path

from combiner_training.captions import joined
from combiner_training.datasets.base import (
    DatasetError,
    Dialogue,
    DialogueTurn,
    as_list,
    as_name,
    as_object,
    as_text,
    field,
    read_json,
)

_CAPTIONS = 2


def load_fashioniq_turns(path: Path, split: str | None = None) -> tuple[Dialogue, ...]:
    """Load the sessions of a published file, CATEGORY.SPLIT.json, in order.

    Each is a chain: the captions of a reference lead to the next reference, those of the last to the target.
    A turn's text is its two captions, joined as FashionIQ's are ("Cap1 and cap2"). `split` must be the
    file's, where it is named.

    Raises:
        DatasetError: The file or an entry cannot be used, or the file is of another split.
    """
    parts = path.name.split(".")
    of_file = parts[-2] if len(parts) > 2 else None
    if split is not None and of_file is not None and split != of_file:
        raise DatasetError(f"{path} has dialogues of split {of_file!r}; expected {split!r}")
    dialogues = tuple(
        _session(entry, f"{path}, entry {number}", f"{path.name.removesuffix('.json')}/{number}")
        for number, entry in enumerate(as_list(read_json(path), str(path)), start=1)
    )
    if not dialogues:
        raise DatasetError(f"{path} has no dialogues")
    return dialogues


def _session(entry: object, where: str, dialogue_id: str) -> Dialogue:
    session = as_object(entry, where)
    steps = as_list(field(session, "reference", where), f"{where}, reference")
    if not steps:
        raise DatasetError(f"{where} has no turns")
    target = as_list(field(session, "target", where), f"{where}, target")
    if len(target) != 2:
        raise DatasetError(f"{where}, target has {len(target)} parts; expected the image's address and name")
    read = [_step(step, f"{where}, turn {number}") for number, step in enumerate(steps, start=1)]
    names = [name for name, _ in read] + [as_name(target[1], f"{where}, target")]
    turns = [DialogueTurn(text, (after,)) for (_, text), after in zip(read, names[1:], strict=True)]
    return Dialogue(dialogue_id, names[0], tuple(turns))


def _step(step: object, where: str) -> tuple[str, str]:
    """Return a reference's name and the text that leads away from it."""
    parts = as_list(step, where)
    if len(parts) != 3:
        raise DatasetError(f"{where} is of {len(parts)} parts; expected the image's address, captions, name")
    captions = [as_text(text, f"{where}, captions") for text in as_list(parts[1], f"{where}, captions")]
    if len(captions) != _CAPTIONS:
        raise DatasetError(f"{where} has {len(captions)} captions; expected {_CAPTIONS}")
    return as_name(parts[2], f"{where}, name"), joined(captions)
