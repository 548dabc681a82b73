"""A run of the indexer for a command."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cir_cli.errors import Failure, WrongUsage
from cir_cli.options import DEFAULT_DATA, flags_in
from cir_cli.partition_options import Division
from indexer.errors import IndexingError, SourceError
from indexer.ledger import ledger_path
from indexer.options import IndexingOptions
from indexer.part_run import embed_part, finish
from indexer.partition import Partition
from indexer.progress import progress_for
from indexer.ray_engine import index_on_ray
from indexer.report import IndexReport, PartReport, part_report_text, reasons_text, report_text
from indexer.run import index
from indexer.sources.schema import read_schema
from indexer.sources.source_factory import open_source
from service_runtime.web_images import Fetching, UrlRules
from vector_store.errors import StoreError
from vector_store.open_store import embedded_folder, open_store
from vector_store.versions import QUANTIZE_ABOVE_BYTES


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run that ended well: a line about it for people, its report for programs, and what was left out."""

    text: str
    document: Mapping[str, object]
    indexed: int
    rejected: int
    reasons: str
    rejects_path: Path | None


def run_index(
    *,
    catalog: str,
    path: Path,
    root: Path | None,
    text_fields: tuple[str, ...],
    image_base: str,
    store_url: str,
    store_api_key: str,
    embedder: str,
    quiet: bool,
    options: IndexingOptions = IndexingOptions(),
    schema: tuple[str, ...] = (),
    allow_hosts: tuple[str, ...] = (),
    allow_private_hosts: bool = False,
    fetch_seconds: float = Fetching().seconds,
    store_ca_file: Path | None = None,
    quantize_above_bytes: int = QUANTIZE_ABOVE_BYTES,
    data: Path = DEFAULT_DATA,
    division: Division | None = None,
) -> Outcome:
    """Index and publish, or what of that `division` asks for.

    Raises:
        Failure: it did not succeed; the message is the one line to show.
    """

    try:
        types = read_schema(schema)
    except SourceError as error:
        raise WrongUsage(str(error)) from error

    async def run() -> IndexReport | PartReport:
        source = open_source(
            path,
            root=root,
            image_base=image_base,
            schema=types,
            text_fields=text_fields,
            fetching=Fetching(UrlRules(allow_hosts, allow_private_hosts), seconds=fetch_seconds),
        )
        progress = progress_for(silent=quiet, spell=flags_in)
        if division is not None and division.partition:
            partition = Partition.parse(division.partition)
            return await embed_part(source, catalog, embedder, partition, division.folder, options, progress)
        given = replace(
            options,
            ledger_path=options.ledger_path or ledger_path(store_url, catalog, data),
            # Its published version is open in the search service.
            keep_features=embedded_folder(store_url) is not None,
        )
        store = open_store(
            store_url,
            api_key=store_api_key,
            ca_file=store_ca_file,
            quantize_above_bytes=quantize_above_bytes,
        )
        try:
            if division is None:
                return await index(source, catalog, store, embedder, given, progress)
            if division.finish:
                return await finish(source, catalog, store, division.folder, given, progress)
            return await index_on_ray(
                source,
                catalog,
                store,
                embedder,
                division.folder,
                partitions=division.ray_partitions,
                ray_address=division.ray_address,
                options=given,
                progress=progress,
            )
        finally:
            await store.close()

    try:
        report = asyncio.run(run())
    except (IndexingError, StoreError, ValueError) as error:
        raise Failure(str(error)) from error
    return Outcome(
        text=report_text(report) if isinstance(report, IndexReport) else part_report_text(report),
        document={**report.document(), "notes": [flags_in(note) for note in report.notes]},
        indexed=report.indexed,
        rejected=report.rejected,
        reasons=reasons_text(report.reject_reasons),
        rejects_path=report.rejects_path,
    )
