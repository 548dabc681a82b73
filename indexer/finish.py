"""The end of a partitioned run: the parts become one version of the catalog, by the rules of every run."""

from __future__ import annotations

import asyncio
from pathlib import Path

from indexer.options import IndexingOptions
from indexer.partition import SourceDigest
from indexer.parts import Parts, open_parts
from indexer.progress import Progress, SilentProgress
from indexer.report import IndexReport
from indexer.run import check_rejects, index_with
from indexer.source import Source, SourceFacts
from vector_store.base import VectorStore


async def finish(
    source: Source,
    catalog: str,
    store: VectorStore,
    folder: Path,
    options: IndexingOptions | None = None,
    progress: Progress | None = None,
) -> IndexReport:
    """Bring `catalog` to the state of `source`, as `index` does, with features from the parts in `folder`.

    No embedder is needed. Nothing is changed before all parts are proved to be there, whole, of one model
    and of the source as it is now. Raises `PartsError`, and what `index` raises.
    """
    options, progress = options or IndexingOptions(), progress or SilentProgress()
    opened = open_parts(folder, catalog)
    try:
        parts = await asyncio.to_thread(opened.__enter__)
        try:
            facts = await asyncio.to_thread(_surveyed, source, parts)
            check_rejects(source, options)
            return await index_with(source, facts, catalog, store, parts, options, progress, parts=parts)
        finally:
            await asyncio.shield(asyncio.to_thread(opened.__exit__, None, None, None))
    finally:
        progress.stop()


def _surveyed(source: Source, parts: Parts) -> SourceFacts:
    facts = source.survey()
    digest = SourceDigest(facts.schema)
    for item in source.items():
        digest.add(item)
    parts.check_source(digest)
    return facts
