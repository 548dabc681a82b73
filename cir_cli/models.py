"""`cir models`: model folders, which run on CPUs without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cir_cli.errors import Failure, require
from cir_cli.model_options import (
    InterpolationOption,
    MeanOption,
    ModelConfigOption,
    QuickGeluOption,
    ResizeModeOption,
    StdOption,
    traits,
)
from cir_cli.options import Json
from cir_cli.output import print_json

app = typer.Typer(help="Model folders: towers that run on CPUs without torch.", no_args_is_help=True)

FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="A model folder.")]


@app.callback()
def _models() -> None:
    pass


@app.command("export")
def export(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; must be new or empty.")],
    model: Annotated[
        str,
        typer.Option("--model", help="open_clip architecture, hf-hub:ORG/NAME, or local-dir:PATH."),
    ] = "ViT-B-32",
    pretrained: Annotated[
        str, typer.Option("--pretrained", metavar="auto|TAG|FILE|shipped|random[:SEED]", help="Weights.")
    ] = "auto",
    mean: MeanOption = "",
    std: StdOption = "",
    interpolation: InterpolationOption = "",
    resize_mode: ResizeModeOption = "",
    quick_gelu: QuickGeluOption = "",
    model_config_file: ModelConfigOption = None,
    json: Json = False,
) -> None:
    """Write a model that open_clip loads as a model folder; then: cir up --model OUT."""
    require("export", what="cir models export")
    from cir_cli.run_models import run_export

    chosen: dict[str, Any] = {"architecture": model, "pretrained": pretrained}
    chosen |= traits(mean, std, interpolation, resize_mode, quick_gelu, "", model_config_file)
    exported = run_export(chosen, out)
    if json:
        print_json({"folder": str(exported.folder), "bytes": exported.size})
        return
    print(f"exported {model}/{pretrained}: {exported.folder} ({exported.size / 1e6:.1f} MB)")
    print(f"compare it with torch: cir models check {exported.folder}")


@app.command("check")
def check(
    folder: FolderArgument,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, max=600, help="Time for each measurement of speed.")
    ] = 2.0,
    json: Json = False,
) -> None:
    """Compare a model folder with torch's features, in each dtype: cosine, and speed on one thread."""
    require("embedder", what="cir models check")
    from cir_cli.run_models import run_check

    rows = run_check(folder, seconds)
    if json:
        print_json({"folder": folder, "dtypes": rows})
        return
    for row in rows:
        if "refused" in row:
            print(f"{row['dtype']:<9} {row['refused']}")
            continue
        print(
            f"{row['dtype']:<9} cosine {row['cosine']:.6f}   largest difference {row['difference']:.1e}   "
            f"image {row['image_ms']:.1f} ms, {row['batch_image_ms']:.1f} in a batch of 8   "
            f"text {row['text_ms']:.1f} ms   (CPU time, one thread)"
        )


@app.command("list")
def list_(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FOLDER]...", help="Folders to look in, next to the models that come along."),
    ] = None,
    json: Json = False,
) -> None:
    """List the model folders that come with the software, and those in other folders."""
    require("embedder", what="cir models list")
    from cir_cli.run_models import found_models

    for folder in folders or ():
        if not folder.is_dir():
            raise Failure(f"{folder} is no folder; expected one that holds model folders")
    found = found_models(folders or ())
    if json:
        print_json({"models": found})
        return
    for row in found:
        print(row["refused"] if "refused" in row else f"{row['name']:<24} {row['facts']}   {row['folder']}")
