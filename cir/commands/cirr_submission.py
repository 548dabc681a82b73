"""`cir cirr-submission`: the files of CIRR's test server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cir.commands.dataset_options import DatasetName, FeaturesOption, RootOption, told_as_failures
from cir.commands.evaluate import CombinerOption, DeviceOption
from cir.commands.options import Json
from cir.commands.output import print_json
from cir.extras import require


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
    from cir.commands.experiments import Experiment, run_cirr_submission

    with told_as_failures():
        paths = run_cirr_submission(
            Experiment(DatasetName.CIRR, root, features), split, combiner, out, device=device
        )
    if json:
        print_json([str(path) for path in paths])
        return
    for path in paths:
        print(path)
