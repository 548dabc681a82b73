"""A comparison as a picture."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from combiner_service.evaluation.compare import Comparison
from combiner_service.evaluation.tables import short_name
from combiner_service.training.plots import save


def plot_comparison(path: Path, comparison: Comparison) -> None:
    """Recalls of every combiner as groups of bars, as PNG."""
    names = [name for name in comparison.rows[0].evaluation.metrics if name.startswith("recall")]
    figure = Figure(figsize=(max(7.0, 1.5 * len(comparison.rows)), 4.5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        places = [row + (index - (len(names) - 1) / 2) * width for row in range(len(comparison.rows))]
        axes.bar(
            places, [row.evaluation.metrics[name] for row in comparison.rows], width, label=short_name(name)
        )
    axes.set_xticks(range(len(comparison.rows)), [row.combiner for row in comparison.rows])
    axes.set_ylim(0, 1)
    axes.set_ylabel("recall")
    axes.set_title(f"{comparison.protocol.dataset}: {comparison.rows[0].evaluation.counts.answered} queries")
    axes.legend(ncols=len(names), loc="upper left", fontsize="small")
    save(figure, path)
