"""A combiner's metrics on a data set, under a protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from combiner_service.combiner import Combiner
from combiner_service.errors import CombinerError
from combiner_service.evaluation.counts import Counts
from combiner_service.evaluation.metrics import mean_average_precision_at, mean_of, recall_at
from combiner_service.evaluation.protocol import Protocol
from combiner_service.evaluation.queries import EvaluationQueries
from combiner_service.evaluation.ranking import group_ranks, target_ranks
from combiner_service.features import Float32

RECALL_KS = (1, 5, 10, 50)
SUBSET_KS = (1, 2, 3)
PRECISION_KS = (5, 10)
# Pairs of one forward pass: bounds memory, and is large enough that weights are read seldom.
_PAIRS = 1024


class EvaluationError(ValueError):
    """What cannot be evaluated, and what to do about it."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Metrics between 0 and 1 by name; `parts` has those of each split where there are several (categories).

    Names are `recall@K`, `map@K`, and for groups `recall_subset@K` and `mean(recall@5, recall_subset@1)`.
    `text_weights` are those of all answered queries.
    """

    combiner: str
    protocol: Protocol
    metrics: Mapping[str, float]
    parts: Mapping[str, Mapping[str, float]]
    counts: Counts
    text_weights: NDArray[np.float32] = field(repr=False)

    def document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "combiner": self.combiner,
            "dataset": self.protocol.dataset,
            "protocol": self.protocol.text,
            "counts": {name: getattr(self.counts, name) for name in Counts.__dataclass_fields__},
            "metrics": dict(self.metrics),
            "parts": {name: dict(part) for name, part in self.parts.items()},
            "text_weight_mean": round(float(self.text_weights.mean()), 6),
        }


def evaluate(
    combiner: Combiner,
    parts: Sequence[EvaluationQueries],
    protocol: Protocol,
    *,
    text_weight: float | None = None,
) -> Evaluation:
    """Evaluate on all parts; the metrics are the plain mean of the parts', as FashionIQ's are of its
    categories.

    Raises EvaluationError where nothing can be answered, where targets are withheld, and where the combiner
    refuses the features (CombinerError's message).
    """
    by_part: dict[str, dict[str, float]] = {}
    weights: list[NDArray[np.float32]] = []
    for part in parts:
        if not part.ids:
            raise EvaluationError(f"no query of {part.split} can be answered: {part.counts.text}")
        if not part.target_counts.all():
            raise EvaluationError(
                f"the targets of {part.split} are withheld, so it has no metrics; "
                "for CIRR's test1 write the files of the test server: cir cirr-submission"
            )
        vectors, used = combine_all(combiner, part.image_features, part.text_features, text_weight)
        by_part[part.split] = _metrics(vectors, part)
        weights.append(used)
    return Evaluation(
        combiner.info.name,
        protocol,
        mean_of(list(by_part.values())),
        by_part if len(by_part) > 1 else {},
        sum((part.counts for part in parts), Counts()),
        np.concatenate(weights),
    )


def combine_all(
    combiner: Combiner, image_features: Float32, text_features: Float32, text_weight: float | None = None
) -> tuple[Float32, NDArray[np.float32]]:
    """Query vectors (n, d) and text weights (n,) of any number of pairs. Raises EvaluationError."""
    vectors, weights = [], []
    for start in range(0, len(image_features), _PAIRS):
        chunk = slice(start, start + _PAIRS)
        try:
            combined = combiner.combine(image_features[chunk], text_features[chunk], text_weight)
        except CombinerError as error:
            raise EvaluationError(f"{combiner.info.name} cannot combine these features: {error}") from error
        vectors.append(combined.query_vectors)
        weights.append(combined.text_weights)
    return np.concatenate(vectors), np.concatenate(weights)


def _metrics(vectors: Float32, part: EvaluationQueries) -> dict[str, float]:
    ranks = target_ranks(vectors, part.gallery, part.targets, part.excluded)
    metrics = {f"recall@{k}": recall_at(ranks, k) for k in RECALL_KS}
    if (part.target_counts > 1).any():
        metrics |= {f"map@{k}": mean_average_precision_at(ranks, part.target_counts, k) for k in PRECISION_KS}
    if part.has_groups:
        within = group_ranks(vectors, part.gallery, part.members, part.targets)
        metrics |= {f"recall_subset@{k}": recall_at(within, k) for k in SUBSET_KS}
        metrics["mean(recall@5, recall_subset@1)"] = (metrics["recall@5"] + metrics["recall_subset@1"]) / 2
    return metrics
