"""A whole run, from the source's survey to a published version."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from indexer.embed import open_embedder
from indexer.errors import IndexingError
from indexer.image_embedder import ImageEmbedder
from indexer.job import Job
from indexer.ledger import Ledger
from indexer.options import IndexingOptions
from indexer.parts import Parts
from indexer.progress import Progress, SilentProgress
from indexer.rebuild import set_aside
from indexer.rejects import RejectsFile
from indexer.report import IndexReport
from indexer.source import Source, SourceFacts
from vector_store.base import VectorStore
from vector_store.errors import StoreError
from vector_store.types import check_catalog_name


async def index(
    source: Source,
    catalog: str,
    store: VectorStore,
    embedder_address: str,
    options: IndexingOptions | None = None,
    progress: Progress | None = None,
) -> IndexReport:
    """Bring `catalog` to the state of `source` and publish it, if anything has changed.

    Pictures that the published version was made from are not encoded again. Items that the source does not
    have stay, unless the options say `sync`. The new version is published only when everything that the
    source gave is either in it or in the rejects file, counted in the store and proved on a sample; until
    then, and on any failure, the published one goes on serving. What a failed, cancelled or killed run has
    written is kept, and the next run goes on from there.

    Raises `IndexingError` (see its subclasses) with a message made for people. The report's `complete` is
    False when items were rejected; a caller that has an exit code should say so loudly.
    """
    options, progress = options or IndexingOptions(), progress or SilentProgress()
    try:
        check_name(catalog)
        facts = await asyncio.to_thread(source.survey)
        check_rejects(source, options)
        async with open_embedder(embedder_address, options) as embedder:
            return await index_with(source, facts, catalog, store, embedder, options, progress)
    finally:
        progress.stop()


async def index_with(
    source: Source,
    facts: SourceFacts,
    catalog: str,
    store: VectorStore,
    embedder: ImageEmbedder,
    options: IndexingOptions,
    progress: Progress,
    *,
    parts: Parts | None = None,
) -> IndexReport:
    """`index` with an embedder that is there, for a source that was surveyed and whose rejects have a place.

    Raises `IndexingError`.
    """
    for note in facts.notes:
        progress.stage(note)
    try:
        async with _ledger(source, catalog, store, options, progress) as ledger:
            job = Job(
                source=source,
                facts=facts,
                catalog=catalog,
                store=store,
                embedder=embedder,
                ledger=ledger,
                options=options,
                progress=progress,
                parts=parts,
            )
            return await job.run()
    except StoreError as error:
        raise IndexingError(f"store: {error}") from error


def check_rejects(source: Source, options: IndexingOptions) -> None:
    """Raise `IndexingError` unless what will be rejected has a place."""
    if not options.dry_run:
        RejectsFile.check(options.rejects_path or source.rejects_path)


def check_name(catalog: str) -> None:
    """Raise `IndexingError` for a name that no catalog can have."""
    try:
        check_catalog_name(catalog)
    except ValueError as error:
        raise IndexingError(str(error)) from None


def default_ledger(source: Source, catalog: str) -> Path:
    """Where the ledger is unless the options say otherwise: beside the source."""
    return source.rejects_path.with_name(f"{catalog}.ledger.sqlite")


@asynccontextmanager
async def _ledger(
    source: Source, catalog: str, store: VectorStore, options: IndexingOptions, progress: Progress
) -> AsyncIterator[Ledger]:
    location = (await store.check())["location"]
    path = options.ledger_path or default_ledger(source, catalog)
    with ExitStack() as scratch:
        if options.dry_run and (options.rebuild_ledger or not path.exists()):
            folder = scratch.enter_context(tempfile.TemporaryDirectory(prefix="cir-ledger-"))
            path = Path(folder) / path.name
        elif options.rebuild_ledger and (old := await asyncio.to_thread(set_aside, path)):
            progress.stage(f"the old ledger is now {old}")
        ledger = await asyncio.to_thread(_open, path, catalog, location)
        try:
            yield ledger
        finally:
            await asyncio.shield(asyncio.to_thread(ledger.close))


def _open(path: Path, catalog: str, location: str) -> Ledger:
    return Ledger.open(path, catalog=catalog, store=location)
