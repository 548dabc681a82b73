"""Training of an inversion for a command. Imports what only the extras bring, torch among it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cir_cli.caption_file import CaptionFile
from cir_cli.torch_tower import TorchTextTower
from combiner_training.datasets.base import Split
from combiner_training.feature_file import FeatureTable, paths_of, read_table
from combiner_training.inversion import (
    InversionData,
    InversionResult,
    caption_data,
    image_data,
    train_inversion,
)
from combiner_training.inversion_options import InversionOptions
from combiner_training.options import TrainingError
from combiner_training.progress import Progress


def run_inversion(
    captions: CaptionFile | None,
    features: Path | None,
    splits: Sequence[Split],
    folder: Path,
    options: InversionOptions,
    *,
    model: str,
    pretrained: str,
    resume: bool,
    progress: Progress,
) -> tuple[InversionData, InversionResult]:
    """Train on captions, else on the images of a folder of features: those of `splits`, or all.

    One of both is given; next to captions the features say which model is meant.

    Empty `model` and `pretrained` are those that the features say of themselves, else the embedder's
    settings.

    Raises:
        TrainingError: as `train_inversion` raises it, or the model is not that of the features.
        Failure: the model cannot be loaded.
    """
    chosen = {"architecture": model, "pretrained": pretrained}
    table = read_table(paths_of(features)[0]) if features is not None else None
    if table is not None:
        chosen = {name: value or table.header.model.get(name, "") for name, value in chosen.items()}
    tower = TorchTextTower({name: value for name, value in chosen.items() if value})
    if captions is not None:
        if table is not None and table.header.model_fingerprint != tower.fingerprint:
            raise TrainingError(
                f"the features are of model {table.header.model_fingerprint}, the text tower is of "
                f"{tower.fingerprint}; name their model with `model` and `pretrained`"
            )
        name = " ".join([captions.path.name, *(f"{name}={value}" for name, value in captions.only)])
        data = caption_data(captions.read(), tower, name)
    else:
        assert table is not None  # noqa: S101  # the folder's
        data = _of_images(table, splits)
    try:
        return data, train_inversion(data, tower, options, folder, resume=resume, progress=progress)
    finally:
        progress.stop()


def _of_images(table: FeatureTable, splits: Sequence[Split]) -> InversionData:
    names = list(dict.fromkeys(name for split in splits for name in split.gallery)) or list(
        table.header.names
    )
    rows = table.rows(names)
    title = f"{splits[0].dataset} {' + '.join(split.name for split in splits)}" if splits else "features"
    return image_data(table.take(rows[rows >= 0]).astype(np.float32), table.header.model_fingerprint, title)
