"""Training for commands. Imports what only the extras bring, torch and matplotlib among it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cir_cli.run_evaluate import Experiment
from combiner_training.data import TrainingData, training_data
from combiner_training.datasets.base import DatasetError
from combiner_training.feature_file import open_folder
from combiner_training.options import TrainOptions
from combiner_training.plots import LEARNING_CURVE, TEXT_WEIGHTS, plot_learning_curve, plot_text_weights
from combiner_training.progress import Progress
from combiner_training.run_warnings import seen_in_training
from combiner_training.train import TrainResult, Validation, train


def run_train(
    experiment: Experiment,
    folder: Path,
    options: TrainOptions,
    *,
    train_split: str,
    validation_split: str,
    resume: bool,
    begin_with: Path | None,
    progress: Progress,
) -> tuple[TrainingData, TrainResult]:
    """Train and plot; an empty `validation_split` validates on nothing.

    Raises:
        TrainingError: as `train` raises it.
        DatasetError: a split cannot be used.
    """
    features = open_folder(experiment.features)
    data = training_data(experiment.splits(train_split), features)
    validation = None
    if validation_split:
        try:
            parts = experiment.queries(experiment.splits(validation_split), features)
        except DatasetError as error:
            raise DatasetError(
                f"there is nothing to validate on: {error}. Name another split with --validation-split, or "
                "train without one by --no-validation"
            ) from error
        validation = Validation(parts, experiment.protocol)
    try:
        trained = train(
            data, validation, options, folder, resume=resume, begin_with=begin_with, progress=progress
        )
    finally:
        progress.stop()
    if validation is not None and (seen := seen_in_training(data, validation.parts)):
        trained = replace(trained, warnings=(seen, *trained.warnings))
    plot_learning_curve(folder / LEARNING_CURVE, trained.log.entries, data.name)
    if trained.last is not None:
        title = f"{data.name}, epoch {trained.epoch}"
        plot_text_weights(folder / TEXT_WEIGHTS, trained.last.text_weights, title)
    return data, trained
