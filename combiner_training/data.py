"""Triplets to train on, as rows of feature files, and their batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from combiner_service.combiner import Float32
from combiner_training.captions import training_texts
from combiner_training.datasets.base import Split
from combiner_training.evaluation.ranking import NONE, padded
from combiner_training.feature_file import FeatureFolder
from combiner_training.options import TrainingError

Rows = NDArray[np.int64]
_NO_PAIRS: Rows = np.empty((0, 2), np.int64)
_NO_ROWS: Rows = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Raw features of b triplets, (b, d) float32 each, and the triplets' ids.

    `target` has the triplets' own targets first, then the further candidates that were asked for. `right`
    (pairs, 2) has the pairs of a triplet and a row of `target` that is not its own and right for it, too,
    where they were asked for.
    """

    ids: tuple[str, ...]
    image: Float32
    text: Float32
    target: Float32
    right: Rows


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """The triplets of a split whose images and texts all have features.

    `references` (n,), `texts` (n, V) and `targets` (n, T) are rows of the feature files, padded with NONE.
    Each epoch takes one text and one target of each triplet at random. `skipped` counts what was left out and
    why.
    """

    name: str
    ids: tuple[str, ...]
    features: FeatureFolder
    references: Rows
    texts: Rows
    targets: Rows
    skipped: dict[str, int]

    @property
    def text(self) -> str:
        """One line that describes the data for people."""
        left_out = _listed(self.skipped)
        return f"{self.name}: {len(self.ids)} triplets" + (f"; LEFT OUT: {left_out}" if left_out else "")

    def answers(self) -> Rows:
        """Return the rows of all targets, each once, in order."""
        return np.unique(self.targets[self.targets != NONE])

    def digest(self) -> str:
        """Return a digest that trainings on the same data share: triplets, features and their model."""
        whole = hashlib.sha256(self.features.model_fingerprint.encode())
        for part in (self.references, self.texts, self.targets):
            whole.update(str(part.shape).encode() + part.tobytes())
        whole.update("\0".join(self.ids).encode())
        return whole.hexdigest()

    def drawn_texts(self, random: np.random.Generator) -> Rows:
        """One text of each triplet at random, as a row."""
        return _one_of_each(self.texts, random)

    def batches(
        self,
        random: np.random.Generator,
        size: int,
        *,
        references: Float32 | None = None,
        with_right_answers: bool = False,
        candidates: int = 0,
    ) -> Iterator[Batch]:
        """One epoch: shuffled, without the batch that would be smaller than the others.

        `references` (n, d) take the place of the features of references where they are not NaN (see
        dialogue_references.py). With each batch come up to `candidates` targets of other triplets, drawn from
        all that are not in the batch.
        """
        pool = self.answers() if candidates else _NO_ROWS
        free = np.ones(len(pool), bool)
        order = random.permutation(len(self.ids))
        texts = _one_of_each(self.texts, random)
        targets = _one_of_each(self.targets, random)
        for start in range(0, len(order) - size + 1, size):
            chosen = order[start : start + size]
            images = self.features.images.take(self.references[chosen])
            if references is not None:
                composed = references[chosen]
                images = np.where(np.isfinite(composed), composed, images)
            drawn = targets[chosen]
            if candidates:
                taken = np.searchsorted(pool, drawn)
                free[taken] = False
                others = pool[free]
                free[taken] = True
                more = random.choice(others, min(candidates, len(others)), replace=False, shuffle=False)
                drawn = np.concatenate([drawn, more])
            yield Batch(
                tuple(self.ids[index] for index in chosen),
                images,
                self.features.texts.take(texts[chosen]),
                self.features.images.take(drawn),
                _other_right_answers(self.targets[chosen], drawn) if with_right_answers else _NO_PAIRS,
            )


def training_data(splits: Sequence[Split], features: FeatureFolder) -> TrainingData:
    """Look up the triplets of all splits (FashionIQ's categories are trained together).

    Raises:
        TrainingError: No triplet is left.
        FeatureFileError: A name has no row.
    """
    queries = [query for split in splits for query in split.queries]
    references = features.images.rows([query.reference for query in queries])
    texts = _rows_of([training_texts(query.texts) for query in queries], features.texts.rows)
    targets = _rows_of([query.targets for query in queries], features.images.rows)
    reasons = {
        "without a target": np.array([not query.targets for query in queries], bool),
        "whose reference has no features": references < 0,
        "whose targets have no features": (targets < 0).all(axis=1),
        "whose texts have no features": (texts < 0).all(axis=1),
    }
    skipped: dict[str, int] = {}
    sound = np.ones(len(queries), bool)
    for why, out in reasons.items():
        skipped[why] = int((out & sound).sum())
        sound &= ~out
    name = f"{splits[0].dataset} {' + '.join(split.name for split in splits)}"
    kept = np.flatnonzero(sound)
    if not kept.size:
        raise TrainingError(f"{name} has no triplet to train on, of {len(queries)}: {_listed(skipped)}")
    return TrainingData(
        name,
        tuple(queries[index].id for index in kept),
        features,
        references[kept],
        texts[kept],
        targets[kept],
        skipped,
    )


def _listed(skipped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {why}" for why, count in skipped.items() if count)


def _rows_of(lists: Sequence[Sequence[str]], look_up: Callable[[list[str]], Rows]) -> Rows:
    """Rows of each list of names, those without features left out, padded with NONE."""
    flat = iter(look_up([name for names in lists for name in names]).tolist())
    return padded([[row for row in islice(flat, len(names)) if row >= 0] for names in lists])


def _one_of_each(rows: Rows, random: np.random.Generator) -> Rows:
    """One entry of each line at random, each as likely as the others."""
    counts = (rows != NONE).sum(axis=1)
    chosen: Rows = rows[np.arange(len(rows)), (random.random(len(rows)) * counts).astype(np.int64)]
    return chosen


def _other_right_answers(right: Rows, drawn: Rows) -> Rows:
    """Return the pairs (i, j), i not j, in which `drawn` (b or more,) has at j one of the `right` (b, T) of
    i."""
    order = np.argsort(drawn, kind="stable")
    owners, _ = np.nonzero(right != NONE)
    wanted = right[right != NONE]
    first = np.searchsorted(drawn[order], wanted, side="left")
    count = np.searchsorted(drawn[order], wanted, side="right") - first
    within = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
    pairs = np.stack([np.repeat(owners, count), order[np.repeat(first, count) + within]], axis=1)
    others: Rows = pairs[pairs[:, 0] != pairs[:, 1]]
    return others
