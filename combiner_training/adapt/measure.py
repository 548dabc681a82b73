"""A new Combiner beside everything that could be in its place, on queries that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from combiner_service.builtin import named_combiners
from combiner_training.datasets.base import Dialogue
from combiner_training.evaluation.bootstrap import Difference, paired_difference
from combiner_training.evaluation.compare import ComparedRow, Comparison, compare
from combiner_training.evaluation.evaluate import (
    DialogueEvaluation,
    combine_all,
    evaluate,
    evaluate_dialogues,
)
from combiner_training.evaluation.protocol import Protocol
from combiner_training.evaluation.queries import EvaluationQueries
from combiner_training.evaluation.ranking import target_ranks, top
from combiner_training.evaluation.sentences import Evaluated
from combiner_training.feature_file import FeatureFolder

#: The new Combiner's name in tables.
NEW = "new"

Ranks = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The comparison, with the new Combiner last and the one `in_use` among the others.

    `old_ranks` and `new_ranks` (n,) are those of each query's best right answer, `difference` is that of R@1.
    """

    comparison: Comparison
    dialogues: tuple[DialogueEvaluation, ...]
    in_use: str
    old_ranks: Ranks
    new_ranks: Ranks
    difference: Difference

    @property
    def headlines(self) -> str:
        """Other headlines than R@1, from the combiner in use to the new one, in percent."""
        shares = {
            f"R@{k}": (float((self.old_ranks <= k).mean()), float((self.new_ranks <= k).mean()))
            for k in (5, 10)
        }
        if self.dialogues:
            old, new = (one.success[10][-1] for one in self.dialogues)
            shares[f"success among the first ten after turn {len(self.dialogues[0].turns)}"] = (old, new)
        return ", ".join(f"{name} {100 * old:.1f} to {100 * new:.1f}" for name, (old, new) in shares.items())

    def document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "comparison": self.comparison.document(),
            "dialogues": [one.document() for one in self.dialogues],
            "in_use": self.in_use,
            "difference_in_recall@1": self.difference.document(),
        }


def measure(
    new: Evaluated,
    in_use: Evaluated,
    old: str,
    queries: EvaluationQueries,
    dialogues: Sequence[Dialogue],
    features: FeatureFolder,
    protocol: Protocol,
) -> Measured:
    """Measure every baseline, the combiner in use, named `old`, and the new one, on the same queries.

    Raises:
        EvaluationError: A combiner refuses the features.
    """
    baselines = compare([], [queries], protocol)
    rows = list(baselines.rows)
    if old not in named_combiners():
        rows.append(ComparedRow(old, evaluate(in_use, [queries], protocol), "in use"))
    rows.append(ComparedRow(NEW, evaluate(new, [queries], protocol)))
    talks = [
        replace(evaluate_dialogues(combiner, dialogues, queries.names, features), combiner=name)
        for name, combiner in ((old, in_use), (NEW, new))
        if dialogues
    ]
    old_ranks, new_ranks = ranks_of(in_use, queries), ranks_of(new, queries)
    difference = paired_difference(new_ranks == 1, old_ranks == 1)
    comparison = Comparison(protocol, tuple(rows), ())
    return Measured(comparison, tuple(talks), old, old_ranks, new_ranks, difference)


def ranks_of(combiner: Evaluated, queries: EvaluationQueries) -> Ranks:
    """The rank of each query's best right answer, (n,)."""
    vectors, _ = combine_all(combiner, queries.image_features, queries.text_features, queries.texts)
    ranks: Ranks = target_ranks(vectors, queries.gallery, queries.targets, queries.excluded).min(axis=1)
    return ranks


@dataclass(frozen=True, slots=True)
class Example:
    """A query on which two combiners differ, with the first answers of both."""

    id: str
    reference: str
    right: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    old_rank: int
    new_rank: int


def examples(
    new: Evaluated, in_use: Evaluated, queries: EvaluationQueries, measured: Measured, count: int
) -> Mapping[str, Sequence[Example]]:
    """The queries that the new Combiner wins and loses by most ranks, `count` of each."""
    gained = np.log(measured.old_ranks.astype(np.float64)) - np.log(measured.new_ranks.astype(np.float64))
    order = np.argsort(-gained, kind="stable")
    chosen = {
        "wins": [int(row) for row in order[:count] if gained[row] > 0],
        "losses": [int(row) for row in order[::-1][:count] if gained[row] < 0],
    }
    return {kind: _examples(rows, new, in_use, queries, measured) for kind, rows in chosen.items()}


_SHOWN = 5


def _examples(
    rows: Sequence[int], new: Evaluated, in_use: Evaluated, queries: EvaluationQueries, measured: Measured
) -> list[Example]:
    if not rows:
        return []
    image, text = queries.image_features[rows], queries.text_features[rows]
    excluded = None if queries.excluded is None else queries.excluded[rows]
    words = [queries.texts[row] for row in rows]
    old_first, new_first = (
        top(combine_all(one, image, text, words)[0], queries.gallery, _SHOWN, excluded)
        for one in (in_use, new)
    )
    names = queries.names
    return [
        Example(
            queries.ids[row],
            names[queries.references[row]],
            names[queries.targets[row, 0]],
            tuple(names[place] for place in old_first[at] if place >= 0),
            tuple(names[place] for place in new_first[at] if place >= 0),
            int(measured.old_ranks[row]),
            int(measured.new_ranks[row]),
        )
        for at, row in enumerate(rows)
    ]
