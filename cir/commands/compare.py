"""`cir compare`: every baseline and any checkpoints on one data set, beside published numbers."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated

import typer

from cir.commands.dataset_options import (
    CaptionsName,
    CaptionsOption,
    CategoryOption,
    DatasetOption,
    DialoguesOption,
    FeaturesOption,
    GalleryName,
    GalleryOption,
    QuietOption,
    ReferenceOption,
    RootOption,
    SplitOption,
    told_as_failures,
)
from cir.commands.evaluate import DeviceOption, print_dialogues
from cir.commands.options import Json
from cir.commands.output import print_json
from cir.commands.work_progress import WorkProgress
from cir.extras import require


def compare(
    dataset: DatasetOption,
    root: RootOption,
    features: FeaturesOption,
    combiner: Annotated[
        list[str] | None,
        typer.Option("--combiner", metavar="FILE", help="A Combiner checkpoint; repeatable."),
    ] = None,
    split: SplitOption = "val",
    category: CategoryOption = None,
    gallery: GalleryOption = GalleryName.ORIGINAL,
    reference: ReferenceOption = None,
    captions: CaptionsOption = CaptionsName.AND,
    dialogues: DialoguesOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Also write comparison.md, comparison.json and comparison.png here."
        ),
    ] = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    json: Json = False,
) -> None:
    """Compare every combiner without a checkpoint, the best weighted sum and Combiner checkpoints.

    Published numbers stand next to them.
    """
    require("train" if out else "combiner", what="cir compare")
    from cir.commands.experiments import Experiment, run_compare
    from combiner_training.evaluation.tables import comparison_table

    with told_as_failures():
        comparison, talks = run_compare(
            Experiment(
                dataset, root, features, category or (), gallery, reference or "", captions, dialogues
            ),
            split,
            combiner or (),
            device=device,
            progress=WorkProgress(quiet=quiet or json),
        )
        document = comparison.document()
        if talks:
            document["dialogues"] = [evaluation.document() for evaluation in talks]
        if out is not None:
            from combiner_training.plots import plot_comparison

            out.mkdir(parents=True, exist_ok=True)
            (out / "comparison.md").write_text(comparison_table(comparison) + "\n")
            (out / "comparison.json").write_text(json_text.dumps(document, indent=2) + "\n")
            plot_comparison(out / "comparison.png", comparison)
    if json:
        print_json(document)
        return
    print(comparison_table(comparison))
    if talks:
        print_dialogues(talks)
