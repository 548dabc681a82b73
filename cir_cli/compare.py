"""`cir compare`, and the files of test servers: `cir cirr-submission` and `cir circo-submission`."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated

import typer

from cir_cli.datasets import (
    IN_GROUPS,
    CaptionsName,
    CaptionsOption,
    CategoryOption,
    DatasetName,
    DatasetOption,
    DialoguesOption,
    FeaturesOption,
    GalleryName,
    GalleryOption,
    ReferenceOption,
    RootOption,
    SplitOption,
    report_errors,
    reserve,
)
from cir_cli.errors import require
from cir_cli.evaluate import CombinerOption, DeviceOption, ModelOption, PretrainedOption
from cir_cli.options import OUTPUT, Json, Quiet, in_groups
from cir_cli.output import WorkProgress, print_json


@in_groups({**IN_GROUPS, OUTPUT: ("out",)})
def compare(
    dataset: DatasetOption,
    root: RootOption,
    features: FeaturesOption,
    combiner: Annotated[
        list[str] | None,
        typer.Option(
            "--combiner",
            metavar="FILE|NAME",
            help="A checkpoint, or joint/NAME, inversion/NAME or combiner/NAME; repeatable.",
        ),
    ] = None,
    split: SplitOption = None,
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
    model: ModelOption = "",
    pretrained: PretrainedOption = "",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Compare every combiner without a checkpoint, the best weighted sum and Combiner checkpoints.

    Published numbers stand next to them.
    """
    require("train" if out else "combiner", what="cir compare")
    from cir_cli.run_evaluate import Experiment, run_compare
    from combiner_training.evaluation.tables import comparison_table, dialogue_table

    with report_errors():
        comparison, talks = run_compare(
            Experiment(
                dataset,
                root,
                features,
                category or (),
                gallery,
                reference or "",
                captions,
                dialogues,
                model,
                pretrained,
            ),
            split,
            combiner or (),
            device=device,
            progress=WorkProgress(quiet=quiet or json),
        )
        document = comparison.document()
        document["dialogues"] = [evaluation.document() for evaluation in talks]
        text = comparison_table(comparison)
        if talks:
            text += f"\n\n{dialogue_table(talks)}"
        if out is not None:
            from combiner_training.plots import plot_comparison

            out.mkdir(parents=True, exist_ok=True)
            (out / "comparison.md").write_text(text + "\n")
            (out / "comparison.json").write_text(json_text.dumps(document, indent=2) + "\n")
            plot_comparison(out / "comparison.png", comparison)
    if json:
        print_json(document)
    else:
        print(text)
    reserve(comparison.rows[0].evaluation.coverage)


def cirr_submission(
    root: RootOption,
    features: FeaturesOption,
    combiner: CombinerOption,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the two files.")],
    split: Annotated[str, typer.Option("--split", help="Split of CIRR.")] = "test1",
    device: DeviceOption = "auto",
    json: Json = False,
) -> None:
    """Rank CIRR's test queries and write recall_submission.json and recall_subset_submission.json.

    Both are checked first: every pair id, 50 and 3 different names without the reference, at most 5 MB.
    """
    require("combiner", what="cir cirr-submission")
    from cir_cli.run_evaluate import Experiment, run_cirr_submission

    with report_errors():
        paths = run_cirr_submission(
            Experiment(DatasetName.CIRR, root, features), split, combiner, out, device=device
        )
    if json:
        print_json({"files": paths})
        return
    for path in paths:
        print(path)


def circo_submission(
    root: RootOption,
    features: FeaturesOption,
    combiner: CombinerOption,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write.")],
    split: Annotated[str, typer.Option("--split", help="Split of CIRCO.")] = "test",
    device: DeviceOption = "auto",
    json: Json = False,
) -> None:
    """Rank CIRCO's test queries and write the file of its test server: 50 images for each query."""
    require("combiner", what="cir circo-submission")
    from cir_cli.run_evaluate import Experiment, run_circo_submission

    with report_errors():
        path = run_circo_submission(
            Experiment(DatasetName.CIRCO, root, features), split, combiner, out, device=device
        )
    if json:
        print_json({"files": [path]})
        return
    print(path)
