"""A whole run: survey, build a version beside the published one, prove it, publish it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from indexer.embed import open_embedder
from indexer.errors import IndexingError, TooManyRejects, VersionIncomplete
from indexer.options import IndexingOptions
from indexer.pipeline import Pipeline
from indexer.progress import Progress, SilentProgress
from indexer.rejects import RejectsFile
from indexer.report import IndexReport, Tally, reasons_text
from indexer.source import Source, SourceFacts
from indexer.verify import Sample, verify_version
from indexer.version_spec import version_spec
from indexer.write import BatchWriter
from vector_store.catalogs import VersionInfo, check_catalog_name
from vector_store.contract import VectorStore, VersionWriter
from vector_store.errors import StoreError


async def index(
    source: Source,
    catalog: str,
    store: VectorStore,
    embedder_address: str,
    options: IndexingOptions | None = None,
    progress: Progress | None = None,
) -> IndexReport:
    """Index every item of `source` into a new version of `catalog` and publish it.

    The version is published only when everything that the source gave is either in it or in the rejects
    file, counted in the store and proved on a sample. On any failure, and when the run is cancelled, the
    new version is dropped and the published one goes on serving.

    Raises `IndexingError` (see its subclasses) with a message made for people. The report's `complete` is
    False when items were rejected; a caller that has an exit code should say so loudly.
    """
    options, progress = options or IndexingOptions(), progress or SilentProgress()
    try:
        check_catalog_name(catalog)
    except ValueError as error:
        raise IndexingError(str(error)) from None
    try:
        facts = await asyncio.to_thread(source.survey)
        for note in facts.notes:
            progress.stage(note)
        return await _build_and_publish(source, facts, catalog, store, embedder_address, options, progress)
    except StoreError as error:
        raise IndexingError(f"store: {error}") from error
    finally:
        progress.stop()


async def _build_and_publish(
    source: Source,
    facts: SourceFacts,
    catalog: str,
    store: VectorStore,
    embedder_address: str,
    options: IndexingOptions,
    progress: Progress,
) -> IndexReport:
    tally, sample = Tally(), Sample(options.verify_items)
    with RejectsFile(options.rejects_path or source.rejects_path, tally.rejects) as rejects:
        async with open_embedder(embedder_address, options) as embedder:
            started = time.monotonic()
            spec = version_spec(embedder.model, facts.schema, options)
            async with _new_version(store, catalog, await store.create_version(catalog, spec)) as writer:
                progress.start(facts.total)
                pipeline = Pipeline(
                    embedder=embedder,
                    writer=BatchWriter(
                        writer, tally, write_items=options.write_items, retry_seconds=options.retry_seconds
                    ),
                    rejects=rejects,
                    sample=sample,
                    tally=tally,
                    options=options,
                    progress=progress,
                )
                await pipeline.run(source, facts.schema)
                _check_counts(tally, rejects, options.max_reject_share)
                if (count := await writer.count()) != tally.indexed:
                    raise VersionIncomplete(
                        f"the store holds {count} items where {tally.indexed} were indexed"
                    )
                progress.stage("building the vector index")
                info = await writer.finish()
                progress.stage("verifying")
                await verify_version(store, catalog, info.version, sample, tally.indexed)
                info = await store.publish(catalog, info.version, keep=options.keep_versions)
    return _report(info, tally, rejects, facts, time.monotonic() - started)


@asynccontextmanager
async def _new_version(
    store: VectorStore, catalog: str, writer: VersionWriter
) -> AsyncIterator[VersionWriter]:
    """Drop the version when the block fails or is cancelled, at whatever point of its life."""
    try:
        yield writer
    except BaseException:
        # Shielded, so that a second Ctrl-C does not leave half a version behind.
        await asyncio.shield(_drop(store, catalog, writer))
        raise


async def _drop(store: VectorStore, catalog: str, writer: VersionWriter) -> None:
    # What went wrong before is the error to tell; a leftover that cannot be dropped now is never published.
    with suppress(StoreError, OSError):
        await writer.abort()
    with suppress(StoreError, OSError):
        # Already finished, the version is not the writer's any more. A published one is never dropped.
        await store.delete_version(catalog, writer.info.version)


def _check_counts(tally: Tally, rejects: RejectsFile, max_reject_share: float) -> None:
    if tally.found != tally.indexed + tally.rejected:
        raise VersionIncomplete(
            f"{tally.found} items were read, but {tally.indexed} indexed and {tally.rejected} rejected"
        )
    if not tally.found:
        raise TooManyRejects("the source gave no items; nothing was published")
    if not tally.indexed:
        raise TooManyRejects(
            f"all {tally.found} items were rejected ({reasons_text(tally.rejects)}); nothing was published. "
            f"See {rejects.path}"
        )
    if tally.rejected > max_reject_share * tally.found:
        raise TooManyRejects(
            f"{tally.rejected} of {tally.found} items were rejected ({reasons_text(tally.rejects)}), more "
            f"than the share of {max_reject_share:g} that is allowed; nothing was published. "
            f"See {rejects.path}, or raise --max-reject-share"
        )


def _report(
    info: VersionInfo, tally: Tally, rejects: RejectsFile, facts: SourceFacts, seconds: float
) -> IndexReport:
    return IndexReport(
        catalog=info.catalog,
        version=info.version,
        model_fingerprint=info.spec.model_fingerprint,
        schema=facts.schema,
        read=tally.found,
        indexed=tally.indexed,
        rejected=tally.rejected,
        reject_reasons=dict(tally.rejects),
        rejects_path=rejects.path if tally.rejected else None,
        seconds=seconds,
        notes=facts.notes,
    )
