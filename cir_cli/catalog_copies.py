"""`cir catalogs copy`, `snapshot`, `restore` and `verify`, and the options of versions that are written."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cir_cli.errors import Failure, require
from cir_cli.local import up_file
from cir_cli.options import DEFAULT_DATA, STORE, CatalogName, Data, Json
from cir_cli.output import print_json
from service_runtime.counted import counted
from vector_store.types import Placement, Quantization

if TYPE_CHECKING:
    from cir_cli.run_copy import NewVersion

VECTOR_INDEX = "How the version's vector index is built"

Quantize = Annotated[
    Quantization,
    typer.Option(
        "--quantization",
        help="Compress vectors for search; the best are scored again with the full ones. auto: int8 above "
        "--quantize-above-bytes.",
        rich_help_panel=VECTOR_INDEX,
    ),
]
QuantizeAbove = Annotated[
    int,
    typer.Option(
        "--quantize-above-bytes",
        min=0,
        metavar="BYTES",
        help="Size of the full vectors (4 bytes a dimension and item) above which auto compresses.",
        rich_help_panel=VECTOR_INDEX,
    ),
]
HnswM = Annotated[
    int,
    typer.Option(
        "--hnsw-m", min=2, max=256, help="Links of an item in the index.", rich_help_panel=VECTOR_INDEX
    ),
]
HnswEfConstruct = Annotated[
    int,
    typer.Option(
        "--hnsw-ef-construct",
        min=4,
        max=4096,
        help="Candidates for links when the index is built.",
        rich_help_panel=VECTOR_INDEX,
    ),
]
VectorsOnDisk = Annotated[
    bool,
    typer.Option(
        "--vectors-on-disk",
        help="Leave full vectors on disk; compressed ones stay in memory.",
        rich_help_panel=VECTOR_INDEX,
    ),
]
PayloadOnDisk = Annotated[
    bool,
    typer.Option("--payload-on-disk", help="Leave payloads on disk.", rich_help_panel=VECTOR_INDEX),
]


def _of_a_cluster(option: str, what: str, *, unasked: str) -> Any:
    text = f"Qdrant server: {what}; 0: {unasked}."
    return typer.Option(option, min=0, max=1024, help=text, rich_help_panel=VECTOR_INDEX)


_PIECES = ("--shards", "pieces of the version")
_COPIES = ("--replicas", "copies of each piece")
_TAKEN = ("--write-consistency", "copies that must have taken a write")
_DEFAULT = "its default"
_AS_IT_HAD = "as the version that is read"

Shards = Annotated[int, _of_a_cluster(*_PIECES, unasked=_DEFAULT)]
Replicas = Annotated[int, _of_a_cluster(*_COPIES, unasked=_DEFAULT)]
WriteConsistency = Annotated[int, _of_a_cluster(*_TAKEN, unasked=_DEFAULT)]
CopyShards = Annotated[int, _of_a_cluster(*_PIECES, unasked=_AS_IT_HAD)]
CopyReplicas = Annotated[int, _of_a_cluster(*_COPIES, unasked=_AS_IT_HAD)]
CopyWriteConsistency = Annotated[int, _of_a_cluster(*_TAKEN, unasked=_AS_IT_HAD)]
StoreCaFile = Annotated[
    Path | None,
    typer.Option(
        "--store-ca-file",
        help="Authority (PEM) to trust for qdrants://; default: the system's.",
        rich_help_panel=STORE,
    ),
]


def _store(text: str) -> Any:
    return typer.Option("--store", envvar="CIR_STORE", metavar="URL", help=text, rich_help_panel=STORE)


_LOCATIONS = "edge:///FOLDER or qdrant://HOST:PORT"
Store = Annotated[str, _store(f"{_LOCATIONS}.")]
StoreOrUp = Annotated[str, _store(f"{_LOCATIONS}; default: that of the services that are up on --data.")]
StoreApiKey = Annotated[
    str,
    typer.Option(
        "--store-api-key",
        envvar="CIR_STORE_API_KEY",
        help="API key of a Qdrant server.",
        rich_help_panel=STORE,
    ),
]
_NEW_VERSION = "The new version"
Version = Annotated[str, typer.Option("--version", help="Version to take; default: the published one.")]
Resume = Annotated[
    str,
    typer.Option(
        "--resume",
        metavar="VERSION",
        help="Go on with what an interrupted run left.",
        rich_help_panel=_NEW_VERSION,
    ),
]
Publish = Annotated[
    bool,
    typer.Option(
        "--publish", help="Publish the new version when it is verified.", rich_help_panel=_NEW_VERSION
    ),
]


def copy(
    name: CatalogName,
    source: Annotated[str, typer.Argument(metavar="FROM", help="Store to read, such as edge:///data/store.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="Store to write, such as qdrant://host:6334.")],
    new_name: Annotated[
        str,
        typer.Option(
            "--as", help="Name of the catalog in TO; default: the same.", rich_help_panel=_NEW_VERSION
        ),
    ] = "",
    version: Annotated[
        str,
        typer.Option(
            "--version", help="Version to take; default: the published one.", rich_help_panel=_NEW_VERSION
        ),
    ] = "",
    resume: Resume = "",
    publish: Publish = False,
    shards: CopyShards = 0,
    replicas: CopyReplicas = 0,
    write_consistency: CopyWriteConsistency = 0,
    source_api_key: Annotated[
        str, typer.Option("--from-api-key", help="API key of FROM.", rich_help_panel=STORE)
    ] = "",
    store_api_key: StoreApiKey = "",
    store_ca_file: StoreCaFile = None,
    as_json: Json = False,
) -> None:
    """Copy a version of a catalog into another store, as a new version there."""
    require("search", what="cir catalogs copy")
    # Only here, after the check of what it needs.
    from cir_cli.run_copy import Access, run_copy

    made = run_copy(
        name,
        Access(source, source_api_key, store_ca_file),
        Access(target, store_api_key, store_ca_file),
        new_name=new_name,
        version=version,
        resume=resume,
        publish=publish,
        placement=Placement(shards=shards, replicas=replicas, write_consistency=write_consistency),
    )
    _print_new(made, as_json=as_json)


def snapshot(
    name: CatalogName,
    folder: Annotated[Path, typer.Argument(help="Folder to write, which is made.")],
    store: Store,
    version: Version = "",
    store_api_key: StoreApiKey = "",
    store_ca_file: StoreCaFile = None,
    as_json: Json = False,
) -> None:
    """Write a version of a catalog into portable files with checksums."""
    require("search", what="cir catalogs snapshot")
    from cir_cli.run_copy import Access, run_snapshot

    info = run_snapshot(name, folder, Access(store, store_api_key, store_ca_file), version=version)
    if as_json:
        print_json({"catalog": name, "version": info.version, "items": info.points, "folder": folder})
    else:
        print(f"{name}: version {info.version} is in {folder}")


def restore(
    folder: Annotated[Path, typer.Argument(help="Folder that cir catalogs snapshot wrote.")],
    store: Store,
    new_name: Annotated[
        str,
        typer.Option(
            "--as", help="Name of the catalog; default: the snapshot's.", rich_help_panel=_NEW_VERSION
        ),
    ] = "",
    resume: Resume = "",
    publish: Publish = False,
    shards: CopyShards = 0,
    replicas: CopyReplicas = 0,
    write_consistency: CopyWriteConsistency = 0,
    store_api_key: StoreApiKey = "",
    store_ca_file: StoreCaFile = None,
    as_json: Json = False,
) -> None:
    """Make a new version of a catalog from a snapshot, after comparing its checksums."""
    require("search", what="cir catalogs restore")
    from cir_cli.run_copy import Access, run_restore

    made = run_restore(
        folder,
        Access(store, store_api_key, store_ca_file),
        new_name=new_name,
        resume=resume,
        publish=publish,
        placement=Placement(shards=shards, replicas=replicas, write_consistency=write_consistency),
    )
    _print_new(made, as_json=as_json)


def _print_new(made: NewVersion, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(made))
    else:
        print(made.text)


def verify(
    name: CatalogName,
    version: Annotated[
        str, typer.Option("--version", help="Version to verify; default: all finished ones.")
    ] = "",
    store: StoreOrUp = "",
    data: Data = DEFAULT_DATA,
    store_api_key: StoreApiKey = "",
    store_ca_file: StoreCaFile = None,
    as_json: Json = False,
) -> None:
    """Compare all files of a catalog's versions with their checksums; exit code 1 when one is damaged."""
    require("search", what="cir catalogs verify")
    from cir_cli.run_copy import Access, run_verify

    if not store:
        store = up_file.must_read(data, otherwise="--store").store
    checks = run_verify(name, Access(store, store_api_key, store_ca_file), version=version)
    if as_json:
        print_json({"catalog": name, "versions": checks})
    for check in checks if not as_json else ():
        label = f"{check.catalog} {check.version}".rstrip()
        found = "damaged" if check.problem else "sound"
        facts = [f"{check.bytes_compared / (1 << 20):,.1f} MiB compared with checksums"]
        if check.items:
            facts.append(f"{counted(check.items, 'item', 'items')} read")
        if check.remark:
            facts.append(check.remark)
        print(f"{label}: {found} ({'; '.join(facts)})")
    if problems := [check.problem for check in checks if check.problem]:
        raise Failure("; ".join(problems))


def add_to(app: typer.Typer) -> None:
    """Make these commands of `app`."""
    for command in (copy, snapshot, restore, verify):
        app.command(command.__name__)(command)
