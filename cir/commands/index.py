"""`cir index`: a folder or manifest of pictures into a new version of a catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cir.commands.options import DEFAULT_DATA, Data
from cir.extras import require
from cir.failure import Failure
from cir.local import up_file

SOME_REJECTED = 3


def index(
    catalog: Annotated[str, typer.Argument(help="Name of the catalog: a-z, 0-9, '-' and '_'.")],
    path: Annotated[
        Path, typer.Argument(help="Folder of pictures, or a manifest (CSV, JSON Lines, Parquet).")
    ],
    root: Annotated[
        Path | None,
        typer.Option(
            "--root", help="Folder that a manifest's image paths are relative to; default: its own."
        ),
    ] = None,
    text_field: Annotated[
        list[str] | None,
        typer.Option("--text-field", help="Column of the manifest to search by word; repeatable."),
    ] = None,
    image_base: Annotated[
        str,
        typer.Option(
            "--image-base", help="What item locations start with, such as a URL; default: the path."
        ),
    ] = "",
    rejects: Annotated[
        Path | None,
        typer.Option(
            "--rejects", metavar="FILE", help="Where rejected items are listed; default: beside PATH."
        ),
    ] = None,
    allow_rejects: Annotated[
        bool, typer.Option("--allow-rejects", help="Exit with 0 although items were rejected.")
    ] = False,
    max_reject_share: Annotated[
        float,
        typer.Option("--max-reject-share", min=0, max=1, help="Publish nothing above this share of rejects."),
    ] = 0.5,
    keep_versions: Annotated[
        int, typer.Option("--keep-versions", min=0, help="Versions kept beside the published one.")
    ] = 3,
    batch_items: Annotated[
        int, typer.Option("--batch-items", min=1, help="Pictures in one call to the embedder.")
    ] = 32,
    data: Data = DEFAULT_DATA,
    store: Annotated[
        str,
        typer.Option(
            "--store", envvar="CIR_STORE", help="edge:///FOLDER or qdrant://HOST:PORT; default: cir up's."
        ),
    ] = "",
    store_api_key: Annotated[
        str, typer.Option("--store-api-key", envvar="CIR_STORE_API_KEY", help="API key of a Qdrant server.")
    ] = "",
    embedder: Annotated[
        str,
        typer.Option(
            "--embedder", envvar="CIR_EMBEDDER", metavar="HOST:PORT", help="The embedder; default: cir up's."
        ),
    ] = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the summary.")] = False,
) -> None:
    """Index pictures into a catalog: a new version is built beside the published one and then published.

    Exit code 3 says that it was published, but items were rejected (see the rejects file).
    """
    require("indexer", what="cir index")
    if not (store and embedder):
        up = up_file.read(data)
        if up is None:
            raise Failure(
                f"nothing is up on {data}; start the services with: cir up --data {data}, "
                "or give both --store and --embedder"
            )
        store, embedder = store or up.store, embedder or up.embedder
    # Only here, so that the rest of the command needs no more than the base install.
    from cir.commands.indexing import run_index

    report = run_index(
        catalog=catalog,
        path=path,
        root=root,
        text_fields=tuple(text_field or ()),
        image_base=image_base,
        store_url=store,
        store_api_key=store_api_key,
        embedder=embedder,
        options={
            "rejects_path": rejects,
            "max_reject_share": max_reject_share,
            "keep_versions": keep_versions,
            "batch_items": batch_items,
        },
        quiet=quiet,
    )
    print(report.text)
    if report.rejected and not allow_rejects:
        raise Failure(
            f"{report.rejected} items were rejected ({report.reasons}), listed in {report.rejects_path}; "
            "--allow-rejects takes this for success",
            exit_code=SOME_REJECTED,
        )
