"""`cir adapt`: a Combiner for a catalog, from its own columns and titles."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from cir.composers import CHECKPOINT_PREFIX
from cir_cli.catalog_copies import StoreApiKey, StoreCaFile, StoreOrUp
from cir_cli.datasets import report_errors
from cir_cli.errors import Failure, require
from cir_cli.local import up_file
from cir_cli.local.plan import UpOptions, adapted_folder
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
    DEFAULT_DATA,
    EMBEDDER,
    STORE,
    Data,
    EmbedderApiKey,
    EmbedderCaFile,
    EmbedderCertFile,
    EmbedderKeyFile,
    Json,
    Quiet,
    access,
    in_groups,
    with_model,
)
from cir_cli.output import WorkProgress, print_json
from combiner_training.adapt.dataset import AdaptData, DatasetOptions

#: Exit code of a run that ended well and handed nothing over.
NOT_BETTER = 3


@in_groups(
    {
        "What is learned from": (
            "columns", "title", "exclude", "language", "phrasings", "clicks", "correct", "most_items",
            "most_triplets",
        ),
        "The training": ("epochs", "seed", "device", "from_scratch", "fresh", "out"),
        "What becomes of it": ("name", "in_use", "force", "checkpoints"),
        MODEL: ("model", "pretrained"),
        STORE: ("store",),
        EMBEDDER: ("embedder",),
    }
)  # fmt: skip
@with_model("options", DatasetOptions)
def adapt(
    source: Annotated[
        str,
        typer.Argument(metavar="CATALOG|MANIFEST", help="A catalog, or a manifest as cir index takes it."),
    ],
    phrasings: Annotated[
        Path | None,
        typer.Option(
            "--phrasings", metavar="FILE", help="Phrasings and words of your own (JSON); see docs/adapt.md."
        ),
    ] = None,
    clicks: Annotated[
        Path | None,
        typer.Option(
            "--clicks", metavar="FILE", help="Log of what customers asked for and took (JSON Lines, Parquet)."
        ),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", help="Serve it as combiner/NAME; default: the catalog's name.")
    ] = "",
    in_use: Annotated[
        str,
        typer.Option(
            "--in-use",
            metavar="NAME|FILE",
            help="Combiner to beat; default: the catalog's own, the shipped one of its model, or slerp.",
        ),
    ] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Hand it over even if it is no better than what is in use.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder of the run; default: DATA/adapt/NAME."),
    ] = None,
    checkpoints: Annotated[
        Path | None,
        typer.Option(
            "--checkpoints",
            metavar="DIR",
            help="Folder that the combiner service serves; default: the one that cir up serves for --data.",
        ),
    ] = None,
    most_items: Annotated[
        int, typer.Option("--most-items", min=200, help="Items to learn from; of more a sample is taken.")
    ] = 20_000,
    epochs: Annotated[
        int, typer.Option("--epochs", min=0, help="Passes over the triplets; 0: about 700 steps.")
    ] = 0,
    device: Annotated[
        str, typer.Option("--device", help="auto (CUDA where there is one), cpu, cuda, cuda:N.")
    ] = "auto",
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Begin with random weights, not those of the one in use.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew in place of resuming a run that was interrupted.")
    ] = False,
    data: Data = DEFAULT_DATA,
    store: StoreOrUp = "",
    store_api_key: StoreApiKey = "",
    store_ca_file: StoreCaFile = None,
    embedder: Annotated[
        str,
        typer.Option(
            "--embedder",
            envvar="CIR_EMBEDDER",
            metavar="HOST:PORT",
            help="The embedder; default: cir up's, else the catalog's model in this process.",
        ),
    ] = "",
    embedder_api_key: EmbedderApiKey = "",
    embedder_ca_file: EmbedderCaFile = None,
    embedder_cert_file: EmbedderCertFile = None,
    embedder_key_file: EmbedderKeyFile = None,
    model: Annotated[
        str,
        typer.Option("--model", help="Model in this process, without an embedder; default: the catalog's."),
    ] = "",
    pretrained: Annotated[
        str, typer.Option("--pretrained", metavar="auto|TAG|FILE|shipped", help="Weights of --model.")
    ] = "",
    mean: MeanOption = "",
    std: StdOption = "",
    interpolation: InterpolationOption = "",
    resize_mode: ResizeModeOption = "",
    quick_gelu: QuickGeluOption = "",
    tokenizer: TokenizerOption = "",
    model_config_file: ModelConfigOption = None,
    quiet: Quiet = False,
    json: Json = False,
    *,
    options: DatasetOptions,
) -> None:
    """Train a Combiner for a catalog from its own columns or titles, and serve it where it is better.

    Triplets are made of the catalog's values in phrasings of many kinds; combinations and phrasings of the
    test are never trained on. --out gets report.md and .json, comparison.png, wins.png, losses.png and
    triplets.jsonl. An interrupted run is resumed. Exit code 3: it was trained, and is no better than what is
    in use.
    """
    require("adapt", what="cir adapt")
    from cir_cli.adapt_report import columns_table
    from cir_cli.adapt_sources import is_manifest
    from cir_cli.run_adapt import AdaptRequest, run_adapt

    chosen = name or (Path(source).stem if is_manifest(source) else source)
    up = up_file.read(data)
    location = store or (up.store if up else "")
    if not location and not is_manifest(source):
        location = UpOptions(data, "", "", "", 0, 0, 0).store
    own_model = bool(model or pretrained)
    request = AdaptRequest(
        source=source,
        name=chosen,
        out=out or data / "adapt" / chosen,
        checkpoints=checkpoints or adapted_folder(data),
        dataset=options,
        store=location,
        store_api_key=store_api_key,
        store_ca_file=store_ca_file,
        embedder=embedder or (up.embedder if up and not own_model else ""),
        access=access(
            embedder_api_key, embedder_ca_file, embedder_cert_file, embedder_key_file, prefix="--embedder-"
        ),
        model=model,
        pretrained=pretrained,
        traits=traits(mean, std, interpolation, resize_mode, quick_gelu, tokenizer, model_config_file),
        phrasings=phrasings,
        clicks=clicks,
        in_use=in_use,
        most_items=most_items,
        epochs=epochs,
        device=device,
        from_scratch=from_scratch,
        fresh=fresh,
        force=force,
    )

    def show(found: AdaptData) -> None:
        if not (quiet or json):
            counts = ", ".join(f"{count:,} {what}" for what, count in found.counts().items())
            print(f"{columns_table(found)}\n\n{counts}", flush=True)

    with report_errors():
        outcome = run_adapt(request, WorkProgress(quiet=quiet or json), show)
    if json:
        print_json(outcome.document())
    else:
        print(f"\n{outcome.text()}\nreport: {request.out}")
        if outcome.handed_over:
            own = outcome.combiner == f"{CHECKPOINT_PREFIX}{chosen}"
            named = "" if own else f" --combiner {outcome.combiner}"
            print(f"search with it: cir search {shlex.quote(chosen)}{named} ...")
    if not outcome.handed_over:
        raise Failure(outcome.verdict, exit_code=NOT_BETTER)
