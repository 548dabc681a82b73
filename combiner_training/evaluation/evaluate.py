"""Evaluating one combiner: on the queries of a data set, and on dialogues of several turns."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cir.vectors import normalize, split_lengths
from combiner_service.combiner import Float32
from combiner_service.errors import BadAnswerError, CombinerError, TextWeightNotTakenError
from combiner_training.datasets.base import Dialogue
from combiner_training.evaluation.metrics import (
    dialogue_success,
    mean_average_precision_at,
    mean_of,
    recall_at,
    unsteady_at,
)
from combiner_training.evaluation.protocol import Protocol
from combiner_training.evaluation.queries import Coverage, EvaluationQueries
from combiner_training.evaluation.ranking import NONE, Positions, group_ranks, padded, target_ranks
from combiner_training.evaluation.sentences import Evaluated, compose
from combiner_training.feature_file import FeatureFolder
from combiner_training.options import OptionError
from search_service.query import Pair, TurnFeatures, TurnKind, fold

RECALL_KS = (1, 5, 10, 50)
SUBSET_KS = (1, 2, 3)
PRECISION_KS = (5, 10, 25, 50)
NEGATIVES_K = 10
# Pairs of one forward pass: bounds memory, and is large enough that weights are read seldom.
_PAIRS = 1024


class EvaluationError(ValueError):
    """An evaluation that cannot be done; the message says what to do about it."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Metrics between 0 and 1 by name; `parts` has those of each split where there are several (categories).

    Names are `recall@K`, `map@K`, for groups `recall_subset@K` and `mean(recall@5, recall_subset@1)`,
    `negatives@10`, the share of the first ten that are wrong members of the query's group, and for queries
    that ask for the same in other words `unsteady@10`, the share of such wishes that are answered among the
    first ten in some of their wordings and not in others. In the last two less is better.
    `text_weights` are those of all answered queries, `notes` say what some metrics are the shares of.
    """

    combiner: str
    protocol: Protocol
    metrics: Mapping[str, float]
    parts: Mapping[str, Mapping[str, float]]
    coverage: Coverage
    text_weights: NDArray[np.float32] = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def text_weight_mean(self) -> float | None:
        """Mean weight of the texts; None where nothing was weighed."""
        mean = float(self.text_weights.mean())
        return None if np.isnan(mean) else round(mean, 6)

    def document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "combiner": self.combiner,
            "dataset": self.protocol.dataset,
            "protocol": self.protocol.text,
            "counts": {name: getattr(self.coverage, name) for name in Coverage.__dataclass_fields__},
            "metrics": dict(self.metrics),
            "parts": {name: dict(part) for name, part in self.parts.items()},
            "text_weight_mean": self.text_weight_mean,
            "notes": list(self.notes),
        }


def evaluate(
    combiner: Evaluated,
    parts: Sequence[EvaluationQueries],
    protocol: Protocol,
    *,
    text_weight: float | None = None,
) -> Evaluation:
    """Evaluate on all parts; metrics are the plain mean of the parts', as FashionIQ's are of its categories.

    Raises:
        EvaluationError: Nothing can be answered, targets are withheld, or the combiner refuses the features
            (with
            the message of the CombinerError).
    """
    by_part: dict[str, dict[str, float]] = {}
    weights: list[NDArray[np.float32]] = []
    for part in parts:
        if not part.ids:
            raise EvaluationError(f"no query of {part.split} can be answered: {part.coverage.text}")
        if not part.target_counts.all():
            raise EvaluationError(
                f"the targets of {part.split} are withheld, so it has no metrics; "
                "for CIRR's test1 write the files of the test server by cir cirr-submission, for CIRCO's "
                "test by cir circo-submission"
            )
        vectors, used = combine_all(
            combiner,
            part.image_features,
            part.text_features,
            part.texts,
            text_weight,
            images=part.images,
        )
        by_part[part.split] = _metrics(vectors, part, protocol.dataset)
        weights.append(used)
    return Evaluation(
        combiner.info.name,
        protocol,
        mean_of(list(by_part.values())),
        by_part if len(by_part) > 1 else {},
        sum((part.coverage for part in parts), Coverage()),
        np.concatenate(weights),
        tuple(_notes(parts, next(iter(by_part.values())))),
    )


def _notes(parts: Sequence[EvaluationQueries], metrics: Collection[str]) -> Iterator[str]:
    """Yield what metrics in groups and over wordings are the shares of, and which of them say nothing."""
    sizes = np.concatenate([(part.members != NONE).sum(axis=1) for part in parts])
    sizes = sizes[sizes > 0]
    if len(sizes) and any(name.startswith("recall_subset@") for name in metrics):
        low, high = int(sizes.min()), int(sizes.max())
        among = f"{low}" if low == high else f"{low} to {high}"
        full = [f"Rs@{k}" for k in SUBSET_KS if k >= high]
        verb = "is" if len(full) == 1 else "are"
        empty = f"; {' and '.join(full)} {verb} 100 for all of them" if full else ""
        yield f"Rs@K: {len(sizes)} queries, each ranked in a group of {among} images{empty}"
    if f"unsteady@{NEGATIVES_K}" in metrics:
        wishes = sum(int((np.unique(part.wishes, return_counts=True)[1] > 1).sum()) for part in parts)
        yield f"uns@{NEGATIVES_K}: {wishes} wish{'es' if wishes > 1 else ''} in several wordings"


def combine_all(
    combiner: Evaluated,
    image_features: Float32,
    text_features: Float32,
    texts: Sequence[str],
    text_weight: float | None = None,
    *,
    images: Sequence[str] = (),
) -> tuple[Float32, NDArray[np.float32]]:
    """Return query vectors (n, d) and text weights (n,) of any number of pairs.

    `text_features` are those of `texts`, which inversions read themselves, as joint encoders do with the
    `images` of those names; the weights of both are NaN.

    Raises:
        EvaluationError: The combiner refuses the features, or fails on them.
        OptionError: The combiner takes no text weight.
    """
    vectors, weights = [], []
    for start in range(0, len(image_features), _PAIRS):
        chunk = slice(start, start + _PAIRS)
        try:
            combined = compose(
                combiner,
                image_features[chunk],
                text_features[chunk],
                texts[chunk],
                text_weight,
                images=images[chunk],
            )
        except BadAnswerError as error:
            raise EvaluationError(str(error)) from error
        except TextWeightNotTakenError as error:
            raise OptionError(str(error)) from error
        except CombinerError as error:
            raise EvaluationError(f"{combiner.info.name} cannot combine these features: {error}") from error
        vectors.append(combined.query_vectors)
        weights.append(combined.text_weights)
    return np.concatenate(vectors), np.concatenate(weights)


def _metrics(vectors: Float32, part: EvaluationQueries, dataset: str) -> dict[str, float]:
    if dataset == "genecis":
        # As published: each query has a gallery of its own.
        within = group_ranks(vectors, part.gallery, part.members, part.targets)
        return {f"recall_subset@{k}": recall_at(within, k) for k in SUBSET_KS}
    ranks = target_ranks(vectors, part.gallery, part.targets, part.excluded)
    metrics = {f"recall@{k}": recall_at(ranks, k) for k in RECALL_KS}
    if (part.target_counts > 1).any():
        metrics |= {f"map@{k}": mean_average_precision_at(ranks, part.target_counts, k) for k in PRECISION_KS}
    if part.has_groups:
        within = group_ranks(vectors, part.gallery, part.members, part.targets)
        metrics |= {f"recall_subset@{k}": recall_at(within, k) for k in SUBSET_KS}
        metrics["mean(recall@5, recall_subset@1)"] = (metrics["recall@5"] + metrics["recall_subset@1"]) / 2
        metrics[f"negatives@{NEGATIVES_K}"] = _negatives(vectors, part)
    if len(set(part.wishes)) < len(part.wishes):
        metrics[f"unsteady@{NEGATIVES_K}"] = unsteady_at(ranks, part.wishes, NEGATIVES_K)
    return metrics


def _negatives(vectors: Float32, part: EvaluationQueries) -> float:
    right = (part.members[:, :, None] == part.targets[:, None, :]).any(axis=2)
    wrong = np.where(right, NONE, part.members)
    ranks = target_ranks(vectors, part.gallery, wrong, part.excluded)
    return float((ranks <= NEGATIVES_K).sum(axis=1).mean() / NEGATIVES_K)


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
    combiner: Evaluated, dialogues: Sequence[Dialogue], gallery: Sequence[str], features: FeatureFolder
) -> DialogueEvaluation:
    """Fold each dialogue's turns by the search service's own rule, and rank the whole gallery after each.

    The reference of a dialogue is not an answer; one without begins with its first text, and goes on at the
    mean length of the gallery's images.

    Raises:
        EvaluationError: No dialogue has all its features, or the combiner refuses them.
        FeatureFileError: A name has no row.
    """
    rows = features.images.rows(gallery)
    names = [name for name, row in zip(gallery, rows, strict=True) if row >= 0]
    place = {name: at for at, name in enumerate(names)}
    matrix, lengths = split_lengths(features.images.take(rows[rows >= 0]))
    features.images.rows([dialogue.reference for dialogue in dialogues if dialogue.reference])
    features.texts.rows([turn.text for dialogue in dialogues for turn in dialogue.turns])
    kept = [
        dialogue
        for dialogue in dialogues
        if (not dialogue.reference or features.images.usable_row(dialogue.reference) >= 0)
        and all(features.texts.usable_row(turn.text) >= 0 for turn in dialogue.turns)
        and all(any(name in place for name in turn.targets) for turn in dialogue.turns)
    ]
    if not kept:
        raise EvaluationError(
            f"none of {len(dialogues)} dialogues can be answered; images or texts are missing"
        )
    sound = lengths[np.isfinite(lengths) & (lengths > 0)]
    talks = [_Talk(dialogue, features, float(sound.mean())) for dialogue in kept]
    ranks: list[Positions] = []
    for turn in range(max(len(dialogue.turns) for dialogue in kept)):
        alive = [index for index, dialogue in enumerate(kept) if len(dialogue.turns) > turn]
        asked = [(index, pair) for index in alive if (pair := talks[index].pair) and pair.turn == turn]
        if asked:
            vectors, _ = combine_all(
                combiner,
                np.stack([pair.image for _, pair in asked]),
                np.stack([pair.text for _, pair in asked]),
                [kept[index].turns[turn].text for index, _ in asked],
            )
            for (index, _), vector in zip(asked, vectors, strict=True):
                talks[index].answer(vector)
        targets = [[place[name] for name in kept[i].turns[turn].targets if name in place] for i in alive]
        excluded = np.array([place.get(kept[index].reference, NONE) for index in alive], np.int64)
        queries = np.stack([talks[index].query for index in alive])
        ranks.append(target_ranks(queries, matrix, padded(targets), excluded))
    return DialogueEvaluation(
        combiner.info.name,
        {k: dialogue_success(ranks, k) for k in SUCCESS_KS},
        tuple(len(part) for part in ranks),
        len(kept),
        len(dialogues),
    )


class _Talk:
    """A dialogue that is being folded: `pair` is to be combined next, if any, `query` stands so far."""

    def __init__(self, dialogue: Dialogue, features: FeatureFolder, image_length: float) -> None:
        texts = features.texts.take(features.texts.rows([turn.text for turn in dialogue.turns]))
        nothing = np.empty((0, texts.shape[1]), np.float32)
        start: Float32 | None = None
        if dialogue.reference:
            start = features.images.take(features.images.rows([dialogue.reference]))[0]
        turns = [
            TurnFeatures(TurnKind.CONTINUED, start=None, text=text, liked=nothing, disliked=nothing)
            for text in texts
        ]
        if start is None:
            start = texts[0]
            turns[0] = replace(turns[0], kind=TurnKind.TEXT_ONLY, start=start, text=None)
        else:
            turns[0] = replace(turns[0], kind=TurnKind.COMPOSED, start=start)
        self.query = normalize(start)
        self.pair: Pair | None = None
        self._folding = fold(start, turns, image_length=image_length)
        self._go_on(None)

    def answer(self, query: Float32) -> None:
        """Go on with the query that the pair came to."""
        self.query = query
        self._go_on(query)

    def _go_on(self, query: Float32 | None) -> None:
        try:
            self.pair = next(self._folding) if query is None else self._folding.send(query)
        except StopIteration:
            self.pair = None
