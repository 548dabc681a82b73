"""`cir index`: a folder or manifest of pictures into a new version of a catalog."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cir_cli.catalog_copies import (
    HnswEfConstruct,
    HnswM,
    PayloadOnDisk,
    Quantize,
    QuantizeAbove,
    Replicas,
    Shards,
    StoreApiKey,
    StoreCaFile,
    StoreOrUp,
    VectorsOnDisk,
    WriteConsistency,
)
from cir_cli.errors import Failure, require
from cir_cli.local import up_file
from cir_cli.options import (
    DEFAULT_DATA,
    EMBEDDER,
    STORE,
    CatalogName,
    Data,
    EmbedderAddress,
    EmbedderApiKey,
    EmbedderCaFile,
    EmbedderCertFile,
    EmbedderKeyFile,
    Json,
    Quiet,
    access,
    flag_of,
    in_groups,
    with_model,
)
from cir_cli.output import print_json
from cir_cli.partition_options import Engine, read_division
from indexer.options import IndexingOptions
from service_runtime.counted import counted
from service_runtime.web_images import Fetching
from vector_store.types import IndexOptions, Placement
from vector_store.versions import QUANTIZE_ABOVE_BYTES

SOME_REJECTED = 3
_VERSION = IndexOptions()
_OF_WHOLE_RUNS = (
    "sync",
    "allow_delete",
    "always_publish",
    "dry_run",
    "near_duplicates_path",
    "ledger_path",
    "rebuild_ledger",
)
_SPELLING = {
    "columns": {"metavar": "NAME"},
    "allow_delete": {"also": "--force"},
    "near_duplicates_path": {"metavar": "FILE"},
    "ledger_path": {"metavar": "FILE", "show_default": "below the embedded store, or below --data"},
    "rejects_path": {"metavar": "PATH", "envvar": "CIR_REJECTS"},
}
_PACE = "the defaults suit the services that cir up starts"
NO_FLAGS = {
    "batch_bytes": _PACE,
    "calls_in_flight": _PACE,
    "read_threads": _PACE,
    "write_items": _PACE,
    "call_timeout_seconds": _PACE,
    "connect_seconds": _PACE,
    "retry_seconds": _PACE,
    "verify_items": "no run goes unverified",
    "keep_features": "follows from the store",
    "vector_index": "spelled by a flag for each of its parts",
    "embedder_api_key": "one of the flags that say how the embedder is reached",
    "embedder_tls": "made of the flags that say how the embedder is reached",
}
"""Fields of `IndexingOptions` that are no options of the command, and why."""


@in_groups(
    {
        "The source and its fields": (
            "root", "image_base", "schema", "text_field", "columns", "checksum",
        ),
        "Pictures on the web": ("allow_host", "allow_private_hosts", "fetch_seconds"),
        "What becomes of the catalog": (
            "sync", "max_delete_share", "allow_delete", "always_publish", "dry_run", "keep_versions",
        ),
        "Items that are rejected, or alike": (
            "allow_rejects", "rejects_path", "max_reject_share", "near_duplicates_path",
            "near_duplicates_cosine",
        ),
        "In partitions": ("partition", "finish", "engine", "parts", "partitions", "ray_address"),
        STORE: ("data", "store", "ledger_path", "rebuild_ledger"),
        EMBEDDER: ("embedder", "batch_items"),
    }
)  # fmt: skip
@with_model("options", IndexingOptions, spelling=_SPELLING, without=NO_FLAGS)
def index(
    name: CatalogName,
    path: Annotated[
        Path,
        typer.Argument(
            help="Folder of pictures, a manifest (CSV, JSON Lines, Parquet), or tar shards ('shards/*.tar')."
        ),
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
    schema: Annotated[
        list[str] | None,
        typer.Option(
            "--schema",
            metavar="FIELD=TYPE|FILE",
            help="Type of a column of the manifest (keyword, integer, float, bool, datetime, geo, text), "
            "or a JSON file with such pairs; repeatable. Others are found from the values.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="HOST[:PORT]",
            help="Fetch a manifest's http(s) pictures from this host (*.example.com for all below it); "
            "repeatable. Default: none.",
        ),
    ] = None,
    allow_private_hosts: Annotated[
        bool,
        typer.Option("--allow-private-hosts", help="Allow hosts whose addresses are not public."),
    ] = False,
    fetch_seconds: Annotated[
        float, typer.Option("--fetch-seconds", min=0.1, help="Seconds that fetching one picture may take.")
    ] = Fetching().seconds,
    *,
    options: IndexingOptions,
    allow_rejects: Annotated[
        bool, typer.Option("--allow-rejects", help="Exit with 0 although items were rejected.")
    ] = False,
    quantization: Quantize = _VERSION.quantization,
    quantize_above_bytes: QuantizeAbove = QUANTIZE_ABOVE_BYTES,
    hnsw_m: HnswM = _VERSION.hnsw_m,
    hnsw_ef_construct: HnswEfConstruct = _VERSION.hnsw_ef_construct,
    vectors_on_disk: VectorsOnDisk = _VERSION.vectors_on_disk,
    payload_on_disk: PayloadOnDisk = _VERSION.payload_on_disk,
    shards: Shards = _VERSION.placement.shards,
    replicas: Replicas = _VERSION.placement.replicas,
    write_consistency: WriteConsistency = _VERSION.placement.write_consistency,
    partition: Annotated[
        str,
        typer.Option(
            "--partition",
            metavar="I/N",
            help="Only embed part I of N of PATH into --parts; any number may run at once, on any host.",
        ),
    ] = "",
    finish: Annotated[
        bool,
        typer.Option("--finish", help="Merge all partitions in --parts into one version; embeds nothing."),
    ] = False,
    engine: Annotated[
        Engine, typer.Option("--engine", help="local, or ray: partitions as tasks of a Ray cluster.")
    ] = Engine.LOCAL,
    parts: Annotated[
        Path | None,
        typer.Option(
            "--parts", metavar="FOLDER", help="Folder that the partitions of this catalog share; keep it."
        ),
    ] = None,
    partitions: Annotated[
        int, typer.Option("--partitions", min=1, max=10_000, help="Partitions, with --engine ray.")
    ] = 8,
    ray_address: Annotated[
        str,
        typer.Option(
            "--ray-address",
            metavar="ADDRESS",
            help="The Ray cluster, such as auto or HOST:6379; default: RAY_ADDRESS, else this machine alone.",
        ),
    ] = "",
    data: Data = DEFAULT_DATA,
    store: StoreOrUp = "",
    store_api_key: StoreApiKey = "",
    store_ca_file: StoreCaFile = None,
    embedder: EmbedderAddress = "",
    embedder_api_key: EmbedderApiKey = "",
    embedder_ca_file: EmbedderCaFile = None,
    embedder_cert_file: EmbedderCertFile = None,
    embedder_key_file: EmbedderKeyFile = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Index pictures into a catalog: a new version is built beside the published one and then published.

    Pictures that have not changed are not encoded again, and nothing is published when nothing has changed.
    An interrupted run is resumed. A catalog's name has a-z, 0-9, '-' and '_'.

    Exit code 3 says that all went well, but items were rejected (see the
    rejects file).
    """
    require("indexer", what="cir index")
    division = read_division(
        engine=engine,
        parts=parts,
        partition=partition,
        finish=finish,
        partitions=partitions,
        ray_address=ray_address,
        of_whole_runs={flag_of(name): bool(getattr(options, name)) for name in _OF_WHOLE_RUNS},
    )
    if not ((store or partition) and (embedder or finish)):
        up = up_file.must_read(data, otherwise="both --store and --embedder")
        store, embedder = store or up.store, embedder or up.embedder
    reached = access(
        embedder_api_key, embedder_ca_file, embedder_cert_file, embedder_key_file, prefix="--embedder-"
    )
    # Only here, after the check of what it needs: it takes longer to import than other commands to run.
    from cir_cli.run_index import run_index

    report = run_index(
        catalog=name,
        path=path,
        root=root,
        text_fields=tuple(text_field or ()),
        schema=tuple(schema or ()),
        allow_hosts=tuple(allow_host or ()),
        allow_private_hosts=allow_private_hosts,
        fetch_seconds=fetch_seconds,
        image_base=image_base,
        store_url=store,
        store_api_key=store_api_key,
        store_ca_file=store_ca_file,
        quantize_above_bytes=quantize_above_bytes,
        embedder=embedder,
        options=replace(
            options,
            vector_index=IndexOptions(
                hnsw_m=hnsw_m,
                hnsw_ef_construct=hnsw_ef_construct,
                quantization=quantization,
                vectors_on_disk=vectors_on_disk,
                payload_on_disk=payload_on_disk,
                placement=Placement(shards=shards, replicas=replicas, write_consistency=write_consistency),
            ),
            embedder_api_key=reached.api_key,
            embedder_tls=reached.tls,
        ),
        data=data,
        quiet=quiet or json,
        division=division,
    )
    if json:
        print_json(report.document)
    else:
        print(report.text)
    if report.rejected and not allow_rejects:
        listed = f", listed in {report.rejects_path}" if report.rejects_path else ""
        raise Failure(
            f"{counted(report.rejected, 'item was', 'items were')} rejected ({report.reasons}){listed}; "
            "--allow-rejects takes this for success",
            exit_code=SOME_REJECTED,
        )
