"""Dialogues of several turns: is a right answer near the top after each?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from combiner_service.combiner import Combiner
from combiner_service.datasets.dialogues import Dialogue
from combiner_service.evaluation.evaluate import EvaluationError, combine_all
from combiner_service.evaluation.metrics import dialogue_success
from combiner_service.evaluation.ranking import NONE, Positions, padded, target_ranks, unit
from combiner_service.feature_files.folder import FeatureFolder
from combiner_service.features import Float32

SUCCESS_KS = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class DialogueEvaluation:
    """`success[k][t]`: share of the dialogues with a turn t + 1 that have a right answer of that turn among
    the first k after it. `answered` dialogues of `dialogues` have all their features; `turns` counts those
    that have each turn."""

    combiner: str
    success: dict[int, tuple[float, ...]]
    turns: tuple[int, ...]
    answered: int
    dialogues: int

    def document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "combiner": self.combiner,
            "dialogues": self.dialogues,
            "answered": self.answered,
            "turns": list(self.turns),
            "success": {f"success@{k}": list(values) for k, values in self.success.items()},
        }


def evaluate_dialogues(
    combiner: Combiner, dialogues: Sequence[Dialogue], gallery: Sequence[str], features: FeatureFolder
) -> DialogueEvaluation:
    """Fold each dialogue's turns as the search service does, and rank the whole gallery after each.

    The first turn combines the reference with its text. Each further one takes the query so far as its
    reference, scaled to the length of the reference's features, for combiners expect raw ones. The reference
    of the dialogue is no answer. Raises EvaluationError, FeatureFileError.
    """
    rows = features.images.rows(gallery)
    names = [name for name, row in zip(gallery, rows, strict=True) if row >= 0]
    place = {name: at for at, name in enumerate(names)}
    matrix = unit(features.images.take(rows[rows >= 0]))
    features.images.rows([dialogue.reference for dialogue in dialogues])
    features.texts.rows([turn.text for dialogue in dialogues for turn in dialogue.turns])
    kept = [
        dialogue
        for dialogue in dialogues
        if features.images.usable_row(dialogue.reference) >= 0
        and all(features.texts.usable_row(turn.text) >= 0 for turn in dialogue.turns)
        and all(any(name in place for name in turn.targets) for turn in dialogue.turns)
    ]
    if not kept:
        raise EvaluationError(
            f"none of {len(dialogues)} dialogues can be answered; images or texts are missing"
        )
    queries = features.images.take(features.images.rows([dialogue.reference for dialogue in kept]))
    lengths = np.linalg.norm(queries, axis=1, keepdims=True)
    ranks: list[Positions] = []
    alive = np.arange(len(kept))
    for turn in range(max(len(dialogue.turns) for dialogue in kept)):
        alive = np.array([index for index in alive if len(kept[index].turns) > turn], np.int64)
        texts = features.texts.take(features.texts.rows([kept[index].turns[turn].text for index in alive]))
        vectors, _ = combine_all(combiner, queries[alive], texts)
        queries[alive] = _lengthened(vectors, lengths[alive])
        targets = [[place[name] for name in kept[i].turns[turn].targets if name in place] for i in alive]
        excluded = np.array([place.get(kept[index].reference, NONE) for index in alive], np.int64)
        ranks.append(target_ranks(vectors, matrix, padded(targets), excluded))
    return DialogueEvaluation(
        combiner.info.name,
        {k: dialogue_success(ranks, k) for k in SUCCESS_KS},
        tuple(len(part) for part in ranks),
        len(kept),
        len(dialogues),
    )


def _lengthened(vectors: Float32, lengths: Float32) -> Float32:
    scaled: Float32 = (vectors * lengths).astype(np.float32)
    return scaled
