"""Queries with known answers from the attributes of a catalog. Pure.

A query changes one or two attributes of a reference and keeps all others; every item that is as asked for is
right. Combinations of the main attributes are split: what val and test ask for was never a target, nor a
reference, in training. An item with an unknown attribute is no reference, for what is to be kept of it is
unknown; it is neither a right answer nor a wrong one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from combiner_service.combiner import Float32
from combiner_training.adapt.columns import ABSENT, UNKNOWN, Attribute, main_attributes
from combiner_training.adapt.phrasings import Change, Phrasings, SplitName
from combiner_training.datasets.base import Dialogue, DialogueTurn, Query

Rows = NDArray[np.int64]
Wanted = Mapping[int, int]
"""Code that is asked for by the place of its attribute."""

#: Of a hundred combinations.
VAL_SHARE, TEST_SHARE = 10, 15
_MAIN = 3
# Fewer combinations are not split: items are, in their place.
_LEAST_COMBINATIONS = 20
_DRAWS = 20
_TWO = 0.5
_HARD_NEGATIVES = 4
_TURNS = 3
_DUPLICATE = 0.995


def splits_of(attributes: Sequence[Attribute], names: Sequence[str]) -> tuple[list[SplitName | None], bool]:
    """Return the split of each item by its combination of main attributes, and if combinations are split.

    None for items whose main attributes are not all known. A combination's split follows from its words
    alone, so that it is the same in every run.
    """
    main = main_attributes(attributes)[:_MAIN]
    codes = np.stack([one.codes for one in main])
    texts = [
        "/".join(f"{one.name}={one.values[code]}" for one, code in zip(main, row, strict=True))
        if min(row) >= 0
        else ""
        for row in codes.T.tolist()
    ]
    whole = len(set(texts) - {""}) >= _LEAST_COMBINATIONS
    return [
        split_of(text if whole else name) if text else None for text, name in zip(texts, names, strict=True)
    ], whole


def split_of(text: str) -> SplitName:
    """The split that a text's hash puts it in."""
    part = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") % 100
    return "test" if part < TEST_SHARE else "val" if part < TEST_SHARE + VAL_SHARE else "train"


def clear_rows(attributes: Sequence[Attribute]) -> NDArray[np.bool_]:
    """True for the items of which no attribute is unknown, (n,)."""
    clear: NDArray[np.bool_] = (np.stack([one.codes for one in attributes]) != UNKNOWN).all(axis=0)
    return clear


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A change of what was `wanted`, and every item that is right after it."""

    edited: tuple[int, ...]
    wanted: Wanted
    targets: Rows


class TripletDrawing:
    """Draws queries of one split. `names` (n) are the items; `splits` as `splits_of` gives them."""

    def __init__(
        self,
        attributes: Sequence[Attribute],
        names: Sequence[str],
        splits: Sequence[SplitName | None],
        phrasings: Phrasings,
        features: Float32,
    ) -> None:
        self._attributes = attributes
        self._names = names
        self._phrasings = phrasings
        self._codes = np.stack([one.codes for one in attributes])
        self._split = np.array([split or "" for split in splits])
        self._clear = clear_rows(attributes)
        place = {one.name: at for at, one in enumerate(attributes)}
        self._head = [place.get(one.head, -1) for one in attributes]
        self._rows_with = [
            [np.flatnonzero(one.codes == code) for code in range(len(one.values))] for one in attributes
        ]
        self._rows_without = [np.flatnonzero(one.codes == ABSENT) for one in attributes]
        self._unit = features / np.linalg.norm(features, axis=1, keepdims=True)

    def references(self, split: SplitName) -> Rows:
        """Items that queries of a split begin with: in train those of its combinations alone."""
        allowed = {"train": ("train",), "val": ("train", "val")}.get(split, ("train", "val", "test"))
        return np.flatnonzero(self._clear & np.isin(self._split, allowed))

    def queries(self, split: SplitName, count: int, seed: int) -> Iterator[Query]:
        """Up to `count` different queries; fewer where the catalog has fewer answers."""
        rng = random.Random(f"queries/{split}/{seed}")  # noqa: S311  # queries, not secrets
        references = self.references(split).tolist()
        seen: set[tuple[int, str]] = set()
        for _ in range(_DRAWS * count if references else 0):
            reference = rng.choice(references)
            start = self._known(reference)
            drawn = self._draw(start, split, rng, two=rng.random() < _TWO)
            if drawn is None:
                continue
            text = self._phrase(start, drawn, split, rng)
            targets = drawn.targets[drawn.targets != reference]
            if (reference, text) in seen or not len(targets):
                continue
            seen.add((reference, text))
            group: tuple[str, ...] = ()
            if split != "train":
                wrong = self._hard_negatives(start, drawn, reference, rng)
                group = (
                    tuple(self._names[row] for row in (reference, int(targets[0]), *wrong)) if wrong else ()
                )
            yield Query(
                f"{split}-{len(seen)}",
                self._names[reference],
                (text,),
                tuple(self._names[row] for row in targets.tolist()),
                group,
            )
            if len(seen) == count:
                return

    def dialogues(self, split: SplitName, count: int, seed: int) -> Iterator[Dialogue]:
        """Up to `count` dialogues of three turns, each of which changes what the one before led to."""
        rng = random.Random(f"dialogues/{split}/{seed}")  # noqa: S311  # queries, not secrets
        references = self.references(split).tolist()
        made = 0
        for _ in range(_DRAWS * count if references else 0):
            reference = rng.choice(references)
            wanted = self._known(reference)
            turns: list[DialogueTurn] = []
            while len(turns) < _TURNS:
                last = len(turns) == _TURNS - 1
                drawn = self._draw(wanted, split if last else None, rng, two=False)
                if drawn is None:
                    break
                targets = drawn.targets[drawn.targets != reference]
                if not len(targets):
                    break
                text = self._phrase(wanted, drawn, split, rng)
                turns.append(DialogueTurn(text, tuple(self._names[row] for row in targets.tolist())))
                wanted = drawn.wanted
            if len(turns) == _TURNS:
                made += 1
                yield Dialogue(f"{split}-{made}", self._names[reference], tuple(turns))
                if made == count:
                    return

    def _known(self, row: int) -> Wanted:
        return {at: code for at, code in enumerate(self._codes[:, row].tolist()) if code >= 0}

    def _draw(self, start: Wanted, split: SplitName | None, rng: random.Random, *, two: bool) -> Drawn | None:
        places = sorted(start)
        edited = tuple(rng.sample(places, 2 if two and len(places) > 1 else 1))
        kept = {at: code for at, code in start.items() if at not in edited}
        # Another kind may lack what is to be kept.
        may_lack = {at for at in kept if self._head[at] in edited}
        found = self._matching(kept, may_lack)
        found = found[self._clear[found]]
        if split == "train":
            found = found[self._split[found] == "train"]
        for at in edited:
            codes = self._codes[at, found]
            found = found[(codes >= 0) & (codes != start[at])]
        if not len(found):
            return None
        ways = self._codes[list(edited)][:, found].T
        # What is asked for decides on the split: of every way those whose answers are of it.
        of_split = self._split[found] == split if split else np.ones(len(found), bool)
        if not of_split.any():
            return None
        options = np.unique(ways[of_split], axis=0)
        chosen = options[rng.randrange(len(options))]
        targets = found[(ways == chosen).all(axis=1)]
        wanted = {**kept, **dict(zip(edited, chosen.tolist(), strict=True))}
        for at in may_lack:
            if (self._codes[at, targets] == ABSENT).all():
                del wanted[at]
        return Drawn(edited, wanted, targets)

    def _matching(self, wanted: Wanted, may_lack: set[int]) -> Rows:
        """Items that have every code that is asked for; of `may_lack` also those that have none."""
        if not wanted:
            return np.arange(self._codes.shape[1])
        first = min(wanted, key=lambda at: len(self._rows_with[at][wanted[at]]) + (at in may_lack) * 10**9)
        found = self._rows_with[first][wanted[first]]
        if first in may_lack:
            found = np.union1d(found, self._rows_without[first])
        for at, code in wanted.items():
            if at != first:
                codes = self._codes[at, found]
                found = found[(codes == code) | (codes == ABSENT)] if at in may_lack else found[codes == code]
        return found

    def _hard_negatives(self, start: Wanted, drawn: Drawn, reference: int, rng: random.Random) -> list[int]:
        """Items that miss what is asked for by one attribute, first by one of two changes; no duplicates."""
        found: list[int] = []
        order = [
            *drawn.edited,
            *rng.sample(
                sorted(drawn.wanted.keys() - set(drawn.edited)), len(drawn.wanted) - len(drawn.edited)
            ),
        ]
        for at in order:
            if at not in drawn.wanted:
                continue
            others = self._matching({a: c for a, c in drawn.wanted.items() if a != at}, set())
            codes = self._codes[at, others]
            others = others[(codes >= 0) & (codes != drawn.wanted[at]) & (others != reference)]
            if len(drawn.edited) == 2 and at in drawn.edited:
                undone = others[self._codes[at, others] == start[at]]
                others = undone if len(undone) else others
            if len(others):
                found.append(int(others[rng.randrange(len(others))]))
        found = list(dict.fromkeys(found))[:_HARD_NEGATIVES]
        near = (self._unit[found] @ self._unit[drawn.targets].T > _DUPLICATE).any(axis=1) if found else ()
        return [row for row, twin in zip(found, near, strict=True) if not twin]

    def _phrase(self, start: Wanted, drawn: Drawn, split: SplitName, rng: random.Random) -> str:
        changes = []
        for at in drawn.edited:
            one = self._attributes[at]
            changes.append(Change(one.name, one.word, one.values[start[at]], one.values[drawn.wanted[at]]))
        return self._phrasings.phrase(changes, split, rng)
