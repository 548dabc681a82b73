"""Queries with known answers: triplets with one or two edits as a text, and dialogues of several turns."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from garments.items import Item, Shelf
from garments.language import phrase
from garments.vocabulary import (
    Attributes,
    Edit,
    SplitName,
    all_changed,
    changed,
    matches,
    names_of,
    possible_edits,
    split_of,
)

_HARD_NEGATIVES = 4
WORDINGS = 4
"""Texts of one wish, where wishes are asked for in several."""
_WORDING_DRAWS = 20
# Draws for one query: with few items most edits lead to a garment that the catalog does not have.
_MOST_DRAWS = 400


@dataclass(frozen=True, slots=True)
class Triplet:
    """A query on a catalog.

    `targets` is every item that is right. `hard_negatives` are items that miss a target by one attribute,
    first those that have one of two edits done and not the other.
    """

    reference: Item
    text: str
    targets: tuple[Item, ...]
    hard_negatives: tuple[Item, ...]
    edits: tuple[Edit, ...]


def may_be_reference(attributes: Attributes, split: SplitName) -> bool:
    """Return true if a query of `split` may begin with such a garment.

    The train split has train combinations alone, and val knows nothing of test's; test, like a shop, may
    begin with any.
    """
    return split_of(attributes) in {"train": ("train",), "val": ("train", "val")}.get(
        split, ("train", "val", "test")
    )


def gallery_of(items: tuple[Item, ...], split: SplitName) -> tuple[Item, ...]:
    """Items that a split's queries are answered from: in train those of train combinations, else all."""
    return (
        tuple(item for item in items if split_of(item.attributes) == "train") if split == "train" else items
    )


def triplets(items: tuple[Item, ...], split: SplitName, count: int, seed: int) -> Iterator[Triplet]:
    """Up to `count` different queries whose targets are of the split's combinations, in its phrasings.

    About half of them have one edit, half two. Fewer come where the catalog is too small for as many.
    """
    rng = random.Random(f"triplets/{split}/{seed}")  # noqa: S311  # queries, not secrets
    shelf = Shelf(gallery_of(items, split))
    references = [item for item in shelf.items if may_be_reference(item.attributes, split)]
    seen: set[tuple[str, str]] = set()
    draws = _MOST_DRAWS * count if references else 0
    while len(seen) < count and draws:
        draws -= 1
        made = _draw(rng.choice(references), shelf, split, rng)
        if made and (made.reference.id, made.text) not in seen:
            seen.add((made.reference.id, made.text))
            yield made


def wordings(
    made: Iterable[Triplet], split: SplitName, count: int, seed: int
) -> Iterator[tuple[Triplet, ...]]:
    """Up to `count` of the queries, each in `WORDINGS` different texts of the split; others are left out."""
    rng = random.Random(f"wordings/{split}/{seed}")  # noqa: S311  # queries, not secrets
    found = 0
    for query in made:
        texts = {query.text: None}
        for _ in range(_WORDING_DRAWS):
            if len(texts) < WORDINGS:
                texts[phrase(query.edits, query.reference.attributes, split, rng)] = None
        if len(texts) == WORDINGS and found < count:
            found += 1
            yield tuple(replace(query, text=text) for text in texts)


def draw_edits(wanted: Attributes, count: int, rng: random.Random) -> tuple[Edit, ...]:
    """`count` edits of different attributes, one of kind first."""
    first = rng.choice(possible_edits(wanted, rng.choice(names_of(wanted["kind"]))))
    if count == 1:
        return (first,)
    after = all_changed(wanted, [first])
    others = [name for name in names_of(after["kind"]) if name not in ("kind", first.attribute)]
    second = rng.choice(possible_edits(after, rng.choice(others)))
    return (first, second)


def _draw(reference: Item, shelf: Shelf, split: SplitName, rng: random.Random) -> Triplet | None:
    edits = draw_edits(reference.attributes, rng.choice((1, 2)), rng)
    wanted = all_changed(reference.attributes, edits)
    if split_of(wanted) != split:
        return None
    targets = shelf.with_all(wanted)
    if not targets:
        return None
    negatives = _hard_negatives(wanted, edits, reference, shelf, rng)
    if not negatives:
        return None
    text = phrase(edits, reference.attributes, split, rng)
    return Triplet(reference, text, tuple(targets), negatives, edits)


def _hard_negatives(
    wanted: Attributes, edits: tuple[Edit, ...], reference: Item, shelf: Shelf, rng: random.Random
) -> tuple[Item, ...]:
    """Items that are as `wanted` but for one attribute, without the reference."""
    undone: list[Item] = []
    if len(edits) == 2:
        for edit in edits:
            undone += shelf.with_all(all_changed(reference.attributes, [edit]))
    others: list[Item] = []
    for name in wanted:
        for edit in possible_edits(wanted, name):
            others += shelf.with_all(changed(wanted, edit))
    rng.shuffle(undone)
    rng.shuffle(others)
    found = {item.id: item for item in (*undone[: _HARD_NEGATIVES // 2], *others)}
    # One edit alone may already lead to a right item: "a t-shirt with a v-neck" is one of "a t-shirt".
    wrong = [
        item for item in found.values() if not matches(item.attributes, wanted) and item.id != reference.id
    ]
    return tuple(wrong[:_HARD_NEGATIVES])


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
