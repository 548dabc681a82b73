"""Queries with known answers from the titles of a catalog alone. Pure.

Two items whose titles differ in a word or two are a reference and an answer, and the words that the answer's
title has and the reference's has not are what a customer would say. Words of hardly any and of nearly all
titles say nothing. Every item with the same words as the answer is right.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from combiner_training.adapt.columns import RARE, TITLE_WORDS
from combiner_training.adapt.phrasings import Change, Phrasings, SplitName, is_chinese
from combiner_training.adapt.triplets import Rows, split_of
from combiner_training.datasets.base import Query

_WORD = re.compile(r"\w[\w'’-]*")
_MOST_CHARACTERS = 1_000
_MOST_SHARE = 0.6
# Titles with more words that tell something are compared by one word alone: pairs of words are too many.
_PAIRED_WORDS = 12
_LEAST_KEPT = 1
_DRAWS = 20


class Titles:
    """Titles as sets of words. `texts` (n) may be empty; `cut` counts those that are not read whole."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.cut = sum(len(text) > _MOST_CHARACTERS for text in texts)
        self._words = [words_of(text) for text in texts]
        counts = Counter(word for words in self._words for word in set(words))
        usual = _MOST_SHARE * max(1, sum(1 for words in self._words if words))
        self.vocabulary = {word for word, count in counts.items() if RARE <= count <= usual}
        self.sets = [frozenset(words) & self.vocabulary for words in self._words]
        self._same: dict[frozenset[str], list[int]] = defaultdict(list)
        for row, words in enumerate(self.sets):
            if words:
                self._same[words].append(row)
        # Sets that are left when words are taken away, with the sets that have them.
        self._near: dict[frozenset[str], list[frozenset[str]]] = defaultdict(list)
        for words in self._same:
            most = 2 if len(words) <= _PAIRED_WORDS else 1
            for count in range(most + 1):
                for taken in combinations(sorted(words), count):
                    if len(words) - count >= _LEAST_KEPT:
                        self._near[words.difference(taken)].append(words)

    def splits(self) -> list[SplitName | None]:
        """The split of each item by its words; None for items without any."""
        return [split_of(" ".join(sorted(words))) if words else None for words in self.sets]

    def usable(self) -> int:
        """Items with a title that another title is near to."""
        return sum(
            any(len(self._near[rest]) > 1 for rest in self._rests(words)) for words in self.sets if words
        )

    def rows(self, words: frozenset[str]) -> Rows:
        """Items with exactly these words."""
        return np.array(self._same[words], np.int64)

    def neighbours(self, words: frozenset[str], rng: random.Random) -> frozenset[str]:
        """Draw words that differ in one or two; the words themselves where there are none."""
        rests = self._rests(words)
        others = self._near[rests[rng.randrange(len(rests))]]
        return others[rng.randrange(len(others))] if others else words

    def said(self, row: int, words: frozenset[str]) -> str:
        """The given words in the order of an item's title."""
        return " ".join(dict.fromkeys(word for word in self._words[row] if word in words))

    def _rests(self, words: frozenset[str]) -> list[frozenset[str]]:
        most = 2 if len(words) <= _PAIRED_WORDS else 1
        return [
            words.difference(taken)
            for count in range(most + 1)
            for taken in combinations(sorted(words), count)
            if len(words) - count >= _LEAST_KEPT
        ]


def words_of(text: str) -> list[str]:
    """The words of a title, in lower case and in order; none of a text without spaces in Chinese."""
    words = _WORD.findall(text[:_MOST_CHARACTERS].casefold())[:TITLE_WORDS]
    return [word for word in words if not (len(word) > 4 and is_chinese(word[0]))]


def title_queries(
    titles: Titles,
    names: Sequence[str],
    splits: Sequence[SplitName | None],
    phrasings: Phrasings,
    split: SplitName,
    count: int,
    seed: int,
) -> Iterator[Query]:
    """Up to `count` different queries; fewer where the titles have fewer answers."""
    rng = random.Random(f"titles/{split}/{seed}")  # noqa: S311  # queries, not secrets
    allowed = {"train": ("train",), "val": ("train", "val")}.get(split, ("train", "val", "test"))
    references = [row for row, of_row in enumerate(splits) if of_row in allowed]
    seen: set[tuple[int, str]] = set()
    for _ in range(_DRAWS * count if references else 0):
        reference = rng.choice(references)
        before = titles.sets[reference]
        after = titles.neighbours(before, rng)
        targets = titles.rows(after)
        if not after - before or splits[int(targets[0])] != split:
            continue
        new = titles.said(int(targets[0]), after - before)
        old = titles.said(reference, before - after)
        text = phrasings.phrase([Change("", "", old, new)], split, rng)
        if (reference, text) not in seen:
            seen.add((reference, text))
            yield Query(
                f"{split}-title-{len(seen)}",
                names[reference],
                (text,),
                tuple(names[row] for row in targets.tolist()),
            )
        if len(seen) == count:
            return
