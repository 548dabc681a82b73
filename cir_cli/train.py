"""`cir train`: a Combiner from extracted features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cir_cli.datasets import (
    CaptionsName,
    CaptionsOption,
    CategoryOption,
    DatasetOption,
    FeaturesOption,
    GalleryName,
    GalleryOption,
    QuietOption,
    ReferenceOption,
    RootOption,
    report_errors,
)
from cir_cli.errors import require
from cir_cli.options import Json, with_model
from cir_cli.output import WorkProgress, print_json
from combiner_training.options import TrainOptions


@with_model("options", TrainOptions)
def train(
    dataset: DatasetOption,
    root: RootOption,
    features: FeaturesOption,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of checkpoints, log and plots.")],
    train_split: Annotated[str, typer.Option("--train-split", help="Split to train on.")] = "train",
    validation_split: Annotated[
        str, typer.Option("--validation-split", help="Split that the best checkpoint is chosen on.")
    ] = "val",
    no_validation: Annotated[
        bool, typer.Option("--no-validation", help="Choose nothing; keep the last checkpoint alone.")
    ] = False,
    category: CategoryOption = None,
    gallery: GalleryOption = GalleryName.ORIGINAL,
    reference: ReferenceOption = None,
    captions: CaptionsOption = CaptionsName.AND,
    begin_with: Annotated[
        Path | None,
        typer.Option(
            "--begin-with", metavar="FILE", help="Start from this checkpoint's weights, not random ones."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the training in --out; the result is the same.")
    ] = False,
    quiet: QuietOption = False,
    json: Json = False,
    *,
    options: TrainOptions,
) -> None:
    """Train the Combiner on features that were extracted before, with the method's loss and its defaults.

    --out gets best.safetensors (CIRR: three, by arithmetic, harmonic and geometric mean), last.safetensors,
    metrics.jsonl and .csv, learning_curve.png and text_weights.png. The checkpoints can be served as they
    are.
    """
    require("train", what="cir train")
    from cir_cli.run_evaluate import Experiment
    from cir_cli.run_train import run_train

    with report_errors():
        data, trained = run_train(
            Experiment(dataset, root, features, category or (), gallery, reference or "", captions),
            out,
            options,
            train_split=train_split,
            validation_split="" if no_validation else validation_split,
            resume=resume,
            begin_with=begin_with,
            progress=WorkProgress(quiet=quiet or json),
        )
    if json:
        print_json(
            {
                "data": data.text,
                "epoch": trained.epoch,
                "best": dict(trained.best),
                "last": trained.last.document() if trained.last else None,
                "folder": str(out),
                "warnings": list(trained.warnings),
            }
        )
        return
    print(f"trained on {data.text}; {trained.epoch} epochs")
    if trained.last:
        print(f"validated by {trained.last.protocol.text}: {trained.last.coverage.text}")
    for name, score in trained.best.items():
        print(f"{name}: {100 * score:.2f} %: {out / name}.safetensors")
    for warning in trained.warnings:
        print(f"WARNING: {warning}")
    print(f"serve it with: python -m combiner_service --checkpoint-dir {out}")
