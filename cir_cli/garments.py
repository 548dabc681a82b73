"""`cir garments`: a drawn catalog whose answers are known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cir_cli.errors import Failure
from cir_cli.options import Json, Quiet
from cir_cli.output import WorkProgress, print_json

app = typer.Typer(help="Draw garments: a catalog and a benchmark with known answers.", no_args_is_help=True)


@app.callback()
def _garments() -> None:
    pass


@app.command("make")
def make(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to; made if it is not there.")],
    size: Annotated[int, typer.Option("--size", min=1, help="Garments in the catalog.")] = 4000,
    seed: Annotated[int, typer.Option("--seed", help="One seed gives the same catalog every time.")] = 1,
    workers: Annotated[int, typer.Option("--workers", min=1, max=256, help="Processes that draw.")] = 1,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Draw a catalog with a manifest for cir index, queries with every right answer, and dialogues."""
    # Only here: no other command has a use for it.
    from garments.catalog import CatalogError, make_catalog

    progress = WorkProgress(quiet=quiet or json)
    progress.start("drawing garments", size)
    try:
        made = make_catalog(folder, size=size, seed=seed, workers=workers, on_image=progress.advance)
    except CatalogError as error:
        raise Failure(str(error)) from error
    except OSError as error:
        raise Failure(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        progress.stop()
    if json:
        files = {
            "manifest": made.manifest,
            "triplets": made.triplets,
            "dialogues": made.dialogues,
            "wordings": made.wordings,
        }
        print_json({**{name: str(path) for name, path in files.items()}, **made.counts})
        return
    print(f"drew {made.counts['garments']:,} garments: {made.manifest}")
    for name, path in (
        ("triplets", made.triplets),
        ("dialogues", made.dialogues),
        ("wordings", made.wordings),
    ):
        counts = (
            f"{count:,} {key.removesuffix(f'_{name}')}"
            for key, count in made.counts.items()
            if key.endswith(f"_{name}")
        )
        print(f"{name}: {', '.join(counts)}: {path}")
    print(f"index it with: cir index garments {made.manifest}")
