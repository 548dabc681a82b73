"""Evaluations as Markdown. Recalls are printed in percent, as papers do. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from combiner_training.evaluation.compare import Comparison
from combiner_training.evaluation.evaluate import DialogueEvaluation, Evaluation

_SHORT = {"mean(recall@5, recall_subset@1)": "(R@5+Rs@1)/2"}
_DIALOGUE_K = 10
_ABBREVIATED = {
    "recall_subset@": "Rs@",
    "recall@": "R@",
    "map@": "mAP@",
    "negatives@": "neg@",
    "unsteady@": "uns@",
}


def evaluation_table(evaluation: Evaluation, alone: Sequence[Evaluation] = ()) -> str:
    """One combiner: a line for each part and one for the mean, with protocol and counts.

    `alone` are evaluations of one side of the queries, which get a line each.
    """
    metrics = list(evaluation.metrics)
    rows = [[name, *_percent(part, metrics)] for name, part in evaluation.parts.items()]
    rows.append(["mean" if rows else evaluation.protocol.dataset, *_percent(evaluation.metrics, metrics)])
    rows += [[f"{each.combiner} alone", *_percent(each.metrics, metrics)] for each in alone]
    return "\n".join(
        (
            f"**{evaluation.combiner}**, in percent; {evaluation.protocol.text}",
            f"{evaluation.coverage.text}; {_weighed(evaluation)}",
            *evaluation.notes,
            "",
            markdown(["", *(short_name(name) for name in metrics)], rows),
        )
    )


def comparison_table(comparison: Comparison) -> str:
    """All combiners, then what was published, with protocols, counts, notes and sources."""
    first = comparison.rows[0].evaluation
    metrics = list(first.metrics)
    rows = [[row.combiner, *_percent(row.evaluation.metrics, metrics)] for row in comparison.rows]
    lines = [
        f"In percent; {comparison.protocol.text}",
        first.coverage.text,
        *first.notes,
        "",
        markdown(["combiner", *(short_name(name) for name in metrics)], rows),
        *(f"\n{row.combiner}: {row.note}" for row in comparison.rows if row.note),
    ]
    if first.parts:
        lines += [
            "",
            markdown(["by part", *(short_name(name) for name in metrics)], _part_rows(comparison, metrics)),
        ]
    if comparison.reported:
        columns = [name for name in metrics if any(name in row.metrics for row in comparison.reported)]
        published = [
            [row.system, *_percent(row.metrics, columns), row.protocol, row.source]
            for row in comparison.reported
        ]
        head = ["published elsewhere", *(short_name(name) for name in columns), "protocol", "source"]
        lines += ["", markdown(head, published)]
    return "\n".join(lines)


def dialogue_table(evaluations: Sequence[DialogueEvaluation]) -> str:
    """Success among the first ten after each turn, a line for each combiner."""
    first = evaluations[0]
    head = [f"S@{_DIALOGUE_K} of dialogues", *(f"turn {turn}" for turn in range(1, len(first.turns) + 1))]
    rows = [
        [each.combiner, *(f"{100 * share:.2f}" for share in each.success[_DIALOGUE_K])]
        for each in evaluations
    ]
    counts = ", ".join(f"{count} with turn {turn}" for turn, count in enumerate(first.turns, start=1))
    said = f"{first.answered} of {first.dialogues} dialogues answered ({counts}), in percent"
    return f"{said}\n\n{markdown(head, rows)}"


def short_name(metric: str) -> str:
    """A metric's name as papers print it."""
    if metric in _SHORT:
        return _SHORT[metric]
    for name, short in _ABBREVIATED.items():
        metric = metric.replace(name, short)
    return metric


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its columns as wide as their longest cell; all but the first to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *others = (cell.replace("|", "\\|") for cell in cells)
        padded = [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(others, widths[1:], strict=True))]
        return f"| {' | '.join(padded)} |"

    rule = [f"{'-' * max(3, widths[0])}", *("-" * max(2, width - 1) + ":" for width in widths[1:])]
    return "\n".join((line(head), f"| {' | '.join(rule)} |", *(line(row) for row in rows)))


def _part_rows(comparison: Comparison, metrics: Sequence[str]) -> list[list[str]]:
    return [
        [f"{row.combiner}, {part}", *_percent(values, metrics)]
        for row in comparison.rows
        for part, values in row.evaluation.parts.items()
    ]


def _percent(values: Mapping[str, float], names: Sequence[str]) -> list[str]:
    return [f"{100 * values[name]:.2f}" if name in values else "" for name in names]


def _weighed(evaluation: Evaluation) -> str:
    mean = evaluation.text_weight_mean
    return "nothing weighed" if mean is None else f"mean text weight {mean:.3f}"
