"""`cir features`: features of a data set, extracted once for training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cir_cli.datasets import (
    DATA_SET,
    CategoryOption,
    DatasetOption,
    DialoguesOption,
    RootOption,
    report_errors,
)
from cir_cli.errors import Reservation, require
from cir_cli.model_options import (
    MODEL,
    InterpolationOption,
    MeanOption,
    ModelConfigOption,
    QuickGeluOption,
    ResizeModeOption,
    StdOption,
    TokenizerOption,
    traits,
)
from cir_cli.options import (
    EMBEDDER,
    EmbedderApiKey,
    EmbedderCaFile,
    EmbedderCertFile,
    EmbedderKeyFile,
    Json,
    Quiet,
    access,
    given_options,
    in_groups,
    refuse_together,
)
from cir_cli.output import WorkProgress, print_json

if TYPE_CHECKING:
    from combiner_training.extract import ExtractResult

_OF_MODEL = (
    "model", "pretrained", "mean", "std", "interpolation", "resize_mode", "quick_gelu", "tokenizer",
    "model_config_file",
)  # fmt: skip


class DtypeName(StrEnum):
    """Types in which features are stored."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"


app = typer.Typer(help="Features of data sets, for training and evaluation.", no_args_is_help=True)


@app.callback()
def _features() -> None:
    pass


@app.command("extract")
@in_groups(
    {
        DATA_SET: ("dataset", "root", "split", "category", "dialogues"),
        MODEL: ("model", "pretrained"),
        "Features": ("out", "dtype", "batch_items", "fresh"),
        EMBEDDER: ("running_embedder",),
    }
)  # fmt: skip
def extract(
    ctx: typer.Context,
    dataset: DatasetOption,
    root: RootOption,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the features; it may grow.")],
    split: Annotated[
        list[str] | None, typer.Option("--split", help="Only this split; repeatable. Default: all there are.")
    ] = None,
    category: CategoryOption = None,
    dialogues: DialoguesOption = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="open_clip architecture, hf-hub:ORG/NAME, local-dir:PATH; default: the embedder's setting, "
            "which is not the model of cir up and cir demo: that is cir-small with --pretrained shipped.",
        ),
    ] = "",
    pretrained: Annotated[
        str,
        typer.Option(
            "--pretrained",
            metavar="auto|TAG|FILE|random[:SEED]",
            help="Weights; default: the embedder's setting.",
        ),
    ] = "",
    mean: MeanOption = "",
    std: StdOption = "",
    interpolation: InterpolationOption = "",
    resize_mode: ResizeModeOption = "",
    quick_gelu: QuickGeluOption = "",
    tokenizer: TokenizerOption = "",
    model_config_file: ModelConfigOption = None,
    running_embedder: Annotated[
        str,
        typer.Option(
            "--embedder",
            metavar="HOST:PORT",
            help="Use this running embedder. Default: load the model in this process, with the embedder's "
            "settings (CIR_EMBEDDER_...).",
        ),
    ] = "",
    embedder_api_key: EmbedderApiKey = "",
    embedder_ca_file: EmbedderCaFile = None,
    embedder_cert_file: EmbedderCertFile = None,
    embedder_key_file: EmbedderKeyFile = None,
    dtype: Annotated[
        DtypeName | None,
        typer.Option("--dtype", help="How features are stored. Default: as the folder's are, else float16."),
    ] = None,
    batch_items: Annotated[
        int, typer.Option("--batch-items", min=1, help="Images or texts in one pass.")
    ] = 32,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Embed everything again, also what the folder has.")
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Run the frozen CLIP once over a data set: every image, and every text that its queries can need.

    A run that was killed goes on where it was. What the folder already has is not embedded again. Images that
    are missing or unreadable are counted, and listed next to the features.
    """
    given = given_options(ctx)
    refuse_together(given, "running_embedder", _OF_MODEL, "a running embedder has its own model")
    require("combiner" if running_embedder else "embedder", what="cir features extract")
    from cir_cli.run_features import Source, run_extract

    with report_errors(lambda: "run it again: what is done is kept"):
        reports = run_extract(
            Source(
                dataset.value,
                root,
                tuple(split or ()),
                tuple(category or ()),
                dialogues,
            ),
            out,
            model=model,
            pretrained=pretrained,
            traits=traits(mean, std, interpolation, resize_mode, quick_gelu, tokenizer, model_config_file),
            embedder=running_embedder,
            access=access(
                embedder_api_key,
                embedder_ca_file,
                embedder_cert_file,
                embedder_key_file,
                prefix="--embedder-",
            ),
            dtype=dtype.value if dtype else None,
            batch_items=batch_items,
            fresh=fresh,
            progress=WorkProgress(quiet=quiet or json),
        )
    if json:
        print_json({"folder": out, "features": reports})
        reserve(reports)
        return
    for report in reports:
        missing = ", ".join(f"{count} {why}" for why, count in report.reasons.items())
        print(
            f"{report.total} {report.kind}: {report.embedded} embedded, {report.kept} kept, "
            f"mean length {report.mean_length:.1f}" + (f"; WITHOUT FEATURES: {missing}" if missing else "")
        )
    print(f"features: {out}")
    reserve(reports)


def reserve(reports: Sequence[ExtractResult]) -> None:
    """End an extraction that is printed and left some without features.

    Raises:
        Reservation: Some have none.
    """
    missing = [
        f"{sum(report.reasons.values())} of {report.total} {report.kind}"
        for report in reports
        if report.reasons
    ]
    if missing:
        raise Reservation(f"{' and '.join(missing)} have no features; see the rejects next to them")
