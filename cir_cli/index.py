"""`cir index`: a folder or manifest of pictures into a new version of a catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cir_cli.catalog_copies import (
    DEFAULT_QUANTIZE_ABOVE,
    HnswEfConstruct,
    HnswM,
    PayloadOnDisk,
    Quantization,
    Quantize,
    QuantizeAbove,
    Replicas,
    Shards,
    StoreCaFile,
    VectorsOnDisk,
    WriteConsistency,
)
from cir_cli.errors import Failure, require
from cir_cli.local import up_file
from cir_cli.options import (
    DEFAULT_DATA,
    Data,
    EmbedderApiKey,
    EmbedderCaFile,
    EmbedderCertFile,
    EmbedderKeyFile,
    Json,
    access,
)
from cir_cli.output import print_json
from cir_cli.partition_options import Engine, read_division

SOME_REJECTED = 3


def index(
    catalog: Annotated[str, typer.Argument(help="Name of the catalog: a-z, 0-9, '-' and '_'.")],
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
    ] = 30.0,
    sync: Annotated[
        bool, typer.Option("--sync", help="Delete items that PATH does not have; otherwise they stay.")
    ] = False,
    max_delete_share: Annotated[
        float,
        typer.Option("--max-delete-share", min=0, max=1, help="--sync deletes no larger share than this."),
    ] = 0.3,
    allow_delete: Annotated[
        bool,
        typer.Option("--allow-delete", "--force", help="Let --sync delete any share, even everything."),
    ] = False,
    checksum: Annotated[
        bool,
        typer.Option("--checksum", help="Read every picture; do not trust size and time of change."),
    ] = False,
    always_publish: Annotated[
        bool, typer.Option("--always-publish", help="Publish a new version even if nothing has changed.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would change; write nothing.")
    ] = False,
    near_duplicates: Annotated[
        Path | None,
        typer.Option(
            "--near-duplicates", metavar="FILE", help="List pairs of items that look alike, as JSON Lines."
        ),
    ] = None,
    near_duplicates_cosine: Annotated[
        float, typer.Option("--near-duplicates-cosine", min=0.01, max=1, help="Alike from this cosine on.")
    ] = 0.97,
    ledger: Annotated[
        Path | None,
        typer.Option(
            "--ledger",
            metavar="FILE",
            help="What remembers the state of the catalog between runs; default: below the embedded store, "
            "or below --data.",
        ),
    ] = None,
    rebuild_ledger: Annotated[
        bool,
        typer.Option("--rebuild-ledger", help="Make the ledger anew from the published version."),
    ] = False,
    rejects: Annotated[
        Path | None,
        typer.Option(
            "--rejects",
            envvar="CIR_REJECTS",
            metavar="FILE",
            help="Where rejected items are listed; default: beside PATH.",
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
    quantization: Quantize = Quantization.AUTO,
    quantize_above_bytes: QuantizeAbove = DEFAULT_QUANTIZE_ABOVE,
    hnsw_m: HnswM = 16,
    hnsw_ef_construct: HnswEfConstruct = 100,
    vectors_on_disk: VectorsOnDisk = False,
    payload_on_disk: PayloadOnDisk = False,
    shards: Shards = 0,
    replicas: Replicas = 0,
    write_consistency: WriteConsistency = 0,
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
    store: Annotated[
        str,
        typer.Option(
            "--store", envvar="CIR_STORE", help="edge:///FOLDER or qdrant://HOST:PORT; default: cir up's."
        ),
    ] = "",
    store_api_key: Annotated[
        str, typer.Option("--store-api-key", envvar="CIR_STORE_API_KEY", help="API key of a Qdrant server.")
    ] = "",
    store_ca_file: StoreCaFile = None,
    embedder: Annotated[
        str,
        typer.Option(
            "--embedder", envvar="CIR_EMBEDDER", metavar="HOST:PORT", help="The embedder; default: cir up's."
        ),
    ] = "",
    embedder_api_key: EmbedderApiKey = "",
    embedder_ca_file: EmbedderCaFile = None,
    embedder_cert_file: EmbedderCertFile = None,
    embedder_key_file: EmbedderKeyFile = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the summary.")] = False,
    json: Json = False,
) -> None:
    """Index pictures into a catalog: a new version is built beside the published one and then published.

    Pictures that have not changed are not encoded again, and nothing is published when nothing has changed.
    An interrupted run is gone on with. Exit code 3 says that all went well, but items were rejected (see the
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
        of_whole_runs={
            "--sync": sync,
            "--allow-delete": allow_delete,
            "--always-publish": always_publish,
            "--dry-run": dry_run,
            "--near-duplicates": near_duplicates is not None,
            "--ledger": ledger is not None,
            "--rebuild-ledger": rebuild_ledger,
        },
    )
    if not ((store or partition) and (embedder or finish)):
        up = up_file.read(data)
        if up is None:
            raise Failure(
                f"nothing is up on {data}; start the services with: cir up --data {data}, "
                "or give both --store and --embedder"
            )
        store, embedder = store or up.store, embedder or up.embedder
    reached = access(
        embedder_api_key, embedder_ca_file, embedder_cert_file, embedder_key_file, prefix="--embedder-"
    )
    # Only here, so that the rest of the command needs no more than the base install.
    from cir_cli.run_index import run_index

    report = run_index(
        catalog=catalog,
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
        options={
            "rejects_path": rejects,
            "max_reject_share": max_reject_share,
            "keep_versions": keep_versions,
            "batch_items": batch_items,
            "sync": sync,
            "max_delete_share": max_delete_share,
            "allow_delete": allow_delete,
            "checksum": checksum,
            "always_publish": always_publish,
            "dry_run": dry_run,
            "near_duplicates_path": near_duplicates,
            "near_duplicates_cosine": near_duplicates_cosine,
            "ledger_path": ledger,
            "rebuild_ledger": rebuild_ledger,
            "vector_index": {
                "hnsw_m": hnsw_m,
                "hnsw_ef_construct": hnsw_ef_construct,
                "quantization": quantization.value,
                "vectors_on_disk": vectors_on_disk,
                "payload_on_disk": payload_on_disk,
                "placement": {
                    "shards": shards,
                    "replicas": replicas,
                    "write_consistency": write_consistency,
                },
            },
            "embedder_api_key": reached.api_key,
            "embedder_tls": reached.tls,
        },
        data=data,
        quiet=quiet,
        division=division,
    )
    if json:
        print_json(report.document)
    else:
        print(report.text)
    if report.rejected and not allow_rejects:
        raise Failure(
            f"{report.rejected} items were rejected ({report.reasons}), listed in {report.rejects_path}; "
            "--allow-rejects takes this for success",
            exit_code=SOME_REJECTED,
        )
