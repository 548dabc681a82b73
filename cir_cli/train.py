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
from cir_cli.options import Json
from cir_cli.output import WorkProgress, print_json


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
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the triplets.")] = 300,
    batch_size: Annotated[
        int,
        typer.Option("--batch-size", min=2, help="Triplets in a batch, which are each other's negatives."),
    ] = 4096,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", min=0.0, help="Adam's, constant.")
    ] = 2e-5,
    continued: Annotated[
        float,
        typer.Option(
            "--continued",
            min=0.0,
            max=1.0,
            help="Share of triplets whose reference is the composed query of a triplet that leads to it, for "
            "dialogues of several turns; the method has none.",
        ),
    ] = 0.0,
    projection: Annotated[
        int, typer.Option("--projection", min=1, help="Width of the two projections.")
    ] = 2560,
    hidden: Annotated[int, typer.Option("--hidden", min=1, help="Width of the hidden layers.")] = 5120,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of weights, order, captions and dropout.")] = 0,
    validate_every: Annotated[
        int,
        typer.Option("--validate-every", min=1, help="Epochs between validations, and between saved states."),
    ] = 1,
    patience: Annotated[
        int,
        typer.Option(
            "--patience", min=0, help="Stop after so many validations without a better one; 0 never."
        ),
    ] = 0,
    device: Annotated[
        str, typer.Option("--device", help="auto (CUDA where there is one), cpu, cuda, cuda:N.")
    ] = "auto",
    mixed_precision: Annotated[
        bool,
        typer.Option(
            "--mixed-precision/--no-mixed-precision", help="On CUDA: half precision where it helps."
        ),
    ] = True,
    begin_with: Annotated[
        Path | None,
        typer.Option(
            "--begin-with", metavar="FILE", help="Start from this checkpoint's weights, not random ones."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the training in --out; the result is the same.")
    ] = False,
    quiet: QuietOption = False,
    json: Json = False,
) -> None:
    """Train the Combiner on features that were extracted before, with the method's loss and its defaults.

    --out gets best.safetensors (CIRR: three, by arithmetic, harmonic and geometric mean), last.safetensors,
    metrics.jsonl and .csv, learning_curve.png and text_weights.png. The checkpoints can be served as they
    are.
    """
    require("train", what="cir train")
    from cir_cli.run_evaluate import Experiment
    from cir_cli.run_train import run_train
    from combiner_training.options import TrainOptions

    with report_errors():
        data, trained = run_train(
            Experiment(dataset, root, features, category or (), gallery, reference or "", captions),
            out,
            TrainOptions(
                epochs=epochs,
                batch_size=batch_size,
                learning_rate=learning_rate,
                continued=continued,
                projection_dim=projection,
                hidden_dim=hidden,
                seed=seed,
                validate_every=validate_every,
                patience=patience,
                device=device,
                mixed_precision=mixed_precision,
            ),
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
            }
        )
        return
    print(f"trained on {data.text}; {trained.epoch} epochs")
    if trained.last:
        print(f"validated by {trained.last.protocol.text}: {trained.last.coverage.text}")
    for name, score in trained.best.items():
        print(f"{name}: {100 * score:.2f} %: {out / name}.safetensors")
    print(f"serve it with: python -m combiner_service --checkpoint-dir {out}")
