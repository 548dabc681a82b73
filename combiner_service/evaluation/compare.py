"""All baselines and any number of networks on one data set, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from combiner_service.combiner import Combiner
from combiner_service.evaluation.evaluate import Evaluation, evaluate
from combiner_service.evaluation.protocol import Protocol
from combiner_service.evaluation.published import PublishedRow, published_rows
from combiner_service.evaluation.queries import EvaluationQueries
from combiner_service.evaluation.selection import selection_rules
from combiner_service.simple import ImageCombiner, SumCombiner, TextCombiner
from combiner_service.slerp import SlerpCombiner

#: Text weights that the weighted sum is tried with.
WEIGHTS = tuple(round(0.1 * step, 1) for step in range(1, 10))


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """One combiner's evaluation; `note` says what is particular about it."""

    combiner: str
    evaluation: Evaluation
    note: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything on one data set under one protocol, and what others published for it."""

    protocol: Protocol
    rows: tuple[ComparedRow, ...]
    published: tuple[PublishedRow, ...]

    def document(self) -> dict[str, object]:
        """For JSON: `{"dataset", "protocol", "counts", "rows": [{"combiner", "recall@1", ...}],
        "published"}`."""
        evaluation = self.rows[0].evaluation.document()
        return {
            "dataset": self.protocol.dataset,
            "protocol": self.protocol.text,
            "counts": evaluation["counts"],
            "rows": [
                {
                    "combiner": row.combiner,
                    **_rounded(row.evaluation.metrics),
                    "parts": {name: _rounded(part) for name, part in row.evaluation.parts.items()},
                    "note": row.note,
                }
                for row in self.rows
            ],
            "published": [
                {"combiner": row.system, **row.metrics, "source": row.source, "protocol": row.protocol}
                for row in self.published
            ],
        }


def compare(
    networks: Sequence[Combiner],
    parts: Sequence[EvaluationQueries],
    protocol: Protocol,
    *,
    done: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Evaluate image, text, sum, weighted sum, slerp and the networks; `done` hears of each.

    The weighted sum takes that text weight of `WEIGHTS` which does best on these very queries: no fixed
    weight does better, so that it is the strongest baseline of its kind. Raises EvaluationError.
    """
    rows: list[ComparedRow] = []

    def add(row: ComparedRow) -> None:
        rows.append(row)
        done(row.combiner)

    for baseline in (ImageCombiner(), TextCombiner(), SumCombiner()):
        add(ComparedRow(baseline.info.name, evaluate(baseline, parts, protocol)))
    add(_weighted_sum(parts, protocol))
    for combiner in (SlerpCombiner(), *networks):
        add(ComparedRow(combiner.info.name, evaluate(combiner, parts, protocol)))
    return Comparison(protocol, tuple(rows), published_rows(protocol.dataset))


def _weighted_sum(parts: Sequence[EvaluationQueries], protocol: Protocol) -> ComparedRow:
    rule = next(iter(selection_rules(protocol.dataset).values()))
    tried = {weight: evaluate(SumCombiner(), parts, protocol, text_weight=weight) for weight in WEIGHTS}
    best = max(tried, key=lambda weight: rule(tried[weight].metrics))
    return ComparedRow(
        "weighted_sum", tried[best], f"text weight {best}, the best of {len(WEIGHTS)} on these queries"
    )


def _rounded(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in metrics.items()}
