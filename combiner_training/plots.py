"""Plots of a training and of a comparison, as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from combiner_training.evaluation.compare import Comparison
from combiner_training.evaluation.tables import short_name
from combiner_training.log import Entry
from service_runtime.files import replace_file

LEARNING_CURVE, TEXT_WEIGHTS = "learning_curve.png", "text_weights.png"


def plot_learning_curve(path: Path, entries: Sequence[Entry], title: str) -> None:
    """Loss, and recalls where they were measured, by epoch."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    left = figure.subplots()
    left.plot([e["epoch"] for e in entries], [e["loss"] for e in entries], color="black", label="loss")
    left.set_xlabel("epoch")
    left.set_ylabel("training loss")
    right = left.twinx()
    recalls = list(dict.fromkeys(name for e in entries for name in e if name.startswith("recall@")))
    for name in recalls:
        measured = [e for e in entries if name in e]
        right.plot([e["epoch"] for e in measured], [e[name] for e in measured], label=name, marker=".")
    right.set_ylim(0, 1)
    right.set_ylabel("validation recall")
    figure.legend(loc="outside right upper")
    left.set_title(title)
    save(figure, path)


def plot_text_weights(path: Path, text_weights: NDArray[np.float32], title: str) -> None:
    """Histogram of lambda over the validation queries: 0 is image only, 1 is text only."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.hist(text_weights, bins=50, range=(0.0, 1.0), color="tab:blue")
    mean = float(text_weights.mean())
    axes.axvline(mean, color="black", linestyle="--", label=f"mean {mean:.3f}")
    axes.set_xlabel("text weight (lambda)")
    axes.set_ylabel("validation queries")
    axes.legend()
    axes.set_title(title)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with replace_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


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
    axes.set_title(
        f"{comparison.protocol.dataset}: {comparison.rows[0].evaluation.coverage.answered} queries"
    )
    axes.legend(ncols=len(names), loc="upper left", fontsize="small")
    save(figure, path)
