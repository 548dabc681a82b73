"""`cir evaluate`: the metrics of one combiner on a data set."""

from __future__ import annotations

from typing import Annotated

import typer

from cir_cli.datasets import (
    COMBINERS,
    IN_GROUPS,
    CaptionsName,
    CaptionsOption,
    CategoryOption,
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
from cir_cli.options import Json, in_groups
from cir_cli.output import print_json

CombinerOption = Annotated[
    str,
    typer.Option(
        "--combiner", metavar="NAME|FILE", help="A combiner by its name, such as sum, or a checkpoint."
    ),
]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        help="Model that reads the sentences of an inversion. Default: the one that made the features.",
    ),
]
PretrainedOption = Annotated[
    str, typer.Option("--pretrained", metavar="auto|TAG|FILE", help="Weights of --model.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="Where networks run: auto, cpu, cuda, cuda:N.")]


@in_groups({**IN_GROUPS, COMBINERS: (*IN_GROUPS[COMBINERS], "text_weight")})
def evaluate(
    dataset: DatasetOption,
    root: RootOption,
    features: FeaturesOption,
    combiner: CombinerOption,
    split: SplitOption = None,
    category: CategoryOption = None,
    gallery: GalleryOption = GalleryName.ORIGINAL,
    reference: ReferenceOption = None,
    captions: CaptionsOption = CaptionsName.AND,
    text_weight: Annotated[
        float | None,
        typer.Option(
            "--text-weight", min=0, max=1, help="Between the image (0) and the text (1), as in a search."
        ),
    ] = None,
    dialogues: DialoguesOption = None,
    device: DeviceOption = "auto",
    model: ModelOption = "",
    pretrained: PretrainedOption = "",
    json: Json = False,
) -> None:
    """Print the recalls of a combiner with the protocol they were measured by, and what was missing.

    Image alone and text alone stand below: what a query's one side answers already.
    """
    require("combiner", what="cir evaluate")
    from cir_cli.run_evaluate import Experiment, run_evaluate
    from combiner_training.evaluation.tables import dialogue_table, evaluation_table

    with report_errors():
        evaluation, alone, talks = run_evaluate(
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
            combiner,
            text_weight=text_weight,
            device=device,
        )
    if json:
        sides = {each.combiner: dict(each.metrics) for each in alone}
        spoken = talks.document() if talks else None
        print_json({**evaluation.document(), "alone": sides, "dialogues": spoken})
    else:
        print(evaluation_table(evaluation, alone))
        if talks:
            print(f"\n{dialogue_table([talks])}")
    reserve(evaluation.coverage)
