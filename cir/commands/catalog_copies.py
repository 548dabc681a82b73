"""`cir catalogs copy`, `snapshot` and `restore`: versions between stores, and into files and back.

They open the stores themselves. An embedded store that is being served is read from a copy of its files, so
the search service goes on meanwhile.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cir.commands.version_options import CopyReplicas, CopyShards, CopyWriteConsistency, StoreCaFile
from cir.extras import require

Name = Annotated[str, typer.Argument(metavar="CATALOG", help="Name of the catalog.")]
Version = Annotated[str, typer.Option("--version", help="Version to take; default: the published one.")]
Store = Annotated[
    str,
    typer.Option("--store", envvar="CIR_STORE", metavar="URL", help="edge:///FOLDER or qdrant://HOST:PORT."),
]
StoreApiKey = Annotated[
    str, typer.Option("--store-api-key", envvar="CIR_STORE_API_KEY", help="API key of a Qdrant server.")
]
Resume = Annotated[
    str, typer.Option("--resume", metavar="VERSION", help="Go on with what an interrupted run left.")
]
Publish = Annotated[bool, typer.Option("--publish", help="Publish the new version when it is verified.")]


def copy(
    name: Name,
    source: Annotated[str, typer.Argument(metavar="FROM", help="Store to read, such as edge:///data/store.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="Store to write, such as qdrant://host:6334.")],
    new_name: Annotated[str, typer.Option("--as", help="Name of the catalog in TO; default: the same.")] = "",
    version: Version = "",
    resume: Resume = "",
    publish: Publish = False,
    shards: CopyShards = 0,
    replicas: CopyReplicas = 0,
    write_consistency: CopyWriteConsistency = 0,
    source_api_key: Annotated[str, typer.Option("--from-api-key", help="API key of FROM.")] = "",
    store_api_key: StoreApiKey = "",
    store_ca_file: StoreCaFile = None,
) -> None:
    """Copy a version of a catalog into another store, as a new version there."""
    require("search", what="cir catalogs copy")
    # Only here, so that the rest of the command needs no more than the base install.
    from cir.commands.copying import Access, run_copy
    from vector_store.copy import Placement

    print(
        run_copy(
            name,
            Access(source, source_api_key, store_ca_file),
            Access(target, store_api_key, store_ca_file),
            new_name=new_name,
            version=version,
            resume=resume,
            publish=publish,
            placement=Placement(shards, replicas, write_consistency),
        )
    )


def snapshot(
    name: Name,
    folder: Annotated[Path, typer.Argument(help="Folder to write, which is made.")],
    store: Store,
    version: Version = "",
    store_api_key: StoreApiKey = "",
    store_ca_file: StoreCaFile = None,
) -> None:
    """Write a version of a catalog into portable files with checksums."""
    require("search", what="cir catalogs snapshot")
    from cir.commands.copying import Access, run_snapshot

    print(run_snapshot(name, folder, Access(store, store_api_key, store_ca_file), version=version))


def restore(
    folder: Annotated[Path, typer.Argument(help="Folder that cir catalogs snapshot wrote.")],
    store: Store,
    new_name: Annotated[str, typer.Option("--as", help="Name of the catalog; default: the snapshot's.")] = "",
    resume: Resume = "",
    publish: Publish = False,
    shards: CopyShards = 0,
    replicas: CopyReplicas = 0,
    write_consistency: CopyWriteConsistency = 0,
    store_api_key: StoreApiKey = "",
    store_ca_file: StoreCaFile = None,
) -> None:
    """Make a new version of a catalog from a snapshot, after comparing its checksums."""
    require("search", what="cir catalogs restore")
    from cir.commands.copying import Access, run_restore
    from vector_store.copy import Placement

    print(
        run_restore(
            folder,
            Access(store, store_api_key, store_ca_file),
            new_name=new_name,
            resume=resume,
            publish=publish,
            placement=Placement(shards, replicas, write_consistency),
        )
    )


def add_to(app: typer.Typer) -> None:
    """Make these commands of `app`."""
    for command in (copy, snapshot, restore):
        app.command(command.__name__)(command)
