"""Dialogues with known answers: three to five turns, each of which changes what is asked for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from combiner_service.garments.attributes import Attributes, SplitName, split_of
from combiner_service.garments.edits import Edit, all_changed
from combiner_service.garments.items import Item, Shelf
from combiner_service.garments.phrasing import phrase
from combiner_service.garments.triplets import draw_edits, gallery_of, may_be_reference

_TURNS = (3, 4, 5)
_TWO_EDITS = 0.2  # share of turns with two edits
# Draws at the most: with few items most edits lead to a garment that the catalog does not have.
_DRAWS_PER_TURN, _DRAWS_PER_DIALOGUE = 12, 40


@dataclass(frozen=True, slots=True)
class Turn:
    """A text, and every item that is right after it and all earlier ones."""

    text: str
    targets: tuple[Item, ...]
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class GarmentDialogue:
    """A first reference and the turns."""

    reference: Item
    turns: tuple[Turn, ...]


def dialogues(items: tuple[Item, ...], split: SplitName, count: int, seed: int) -> Iterator[GarmentDialogue]:
    """Up to `count` dialogues whose last targets are of the split's combinations, in the split's phrasings.

    After every turn the catalog has a right item, and no turn goes back to what was asked for before.
    """
    rng = random.Random(f"dialogues/{split}/{seed}")  # noqa: S311  # queries, not secrets
    shelf = Shelf(gallery_of(items, split))
    references = [item for item in shelf.items if may_be_reference(item.attributes, split)]
    draws = _DRAWS_PER_DIALOGUE * count if references else 0
    made = 0
    while made < count and draws:
        draws -= 1
        reference = rng.choice(references)
        turns = _turns(reference, rng.choice(_TURNS), shelf, split, rng)
        if turns:
            made += 1
            yield GarmentDialogue(reference, turns)


def _turns(
    reference: Item, count: int, shelf: Shelf, split: SplitName, rng: random.Random
) -> tuple[Turn, ...]:
    """`count` turns from the reference on; none when they lead out of the catalog or of the split."""
    wanted: Attributes = reference.attributes
    asked_for = [wanted]
    turns: list[Turn] = []
    for _ in range(_DRAWS_PER_TURN * count):
        edits = draw_edits(wanted, 2 if rng.random() < _TWO_EDITS else 1, rng)
        after = all_changed(wanted, edits)
        targets = shelf.with_all(after)
        last = len(turns) == count - 1
        if not targets or after in asked_for or (last and split_of(after) != split):
            continue
        turns.append(Turn(phrase(edits, wanted, split, rng), tuple(targets), edits))
        if last:
            return tuple(turns)
        asked_for.append(after)
        wanted = after
    return ()
