"""A partitioned run: each partition is embedded into a part, and finishing merges the parts into a version.

Embedding a part touches no store, so any number may run at once; finishing follows the rules of every run."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from indexer.changes import ChangeDetector
from indexer.embed import ImageEmbedder, open_embedder
from indexer.errors import LedgerDamaged, PartsError, VersionIncomplete
from indexer.items import Change, ContentStamp, EmbeddedItem
from indexer.ledger import Ledger
from indexer.options import IndexingOptions
from indexer.partition import Partition, PartitionSource, SourceDigest
from indexer.parts import PART_VERSION, PartFacts, Parts, open_parts, part_path, seal_part, work_ledger_path
from indexer.pipeline import Pipeline
from indexer.progress import Progress, SilentProgress
from indexer.rejects import ID_DUPLICATE, Reject, RejectsFile, rejects_path
from indexer.report import IndexReport, PartReport, Tally
from indexer.reuse import FeatureReuse
from indexer.run import check_name, check_rejects, index_with
from indexer.sources.base import Source, SourceFacts, SourceItem
from indexer.verify import Sample
from indexer.write import LedgerPage
from vector_store.base import VectorStore

_MODEL = "model"
_IDS_AT_ONCE = 1000


async def embed_part(
    source: Source,
    catalog: str,
    embedder_address: str,
    partition: Partition,
    folder: Path,
    options: IndexingOptions | None = None,
    progress: Progress | None = None,
) -> PartReport:
    """Embed the items of `partition` into a part in `folder`, which all partitions of a run share.

    What an earlier run of this partition embedded there is not embedded again, whether it was finished or
    killed. Of the options those that concern the source, the embedder and rejects count. Raises
    `IndexingError`; the part that was there before is then still there.
    """
    options, progress = options or IndexingOptions(), progress or SilentProgress()
    check_name(catalog)
    path = rejects_path(options.rejects_path, part_path(folder, partition).with_suffix(".rejects.jsonl"))
    try:
        tally = Tally()
        async with open_embedder(embedder_address, options) as embedder:
            ledger = await asyncio.to_thread(_open, folder, partition, catalog)
            try:
                job = _PartRun(source, catalog, partition, folder, embedder, ledger, options, progress, tally)
                with RejectsFile(path, tally.rejects) as rejects:
                    return await job.run(rejects)
            finally:
                await asyncio.shield(asyncio.to_thread(ledger.close))
    finally:
        progress.stop()


@dataclass(slots=True)
class _PartRun:
    source: Source
    catalog: str
    partition: Partition
    folder: Path
    embedder: ImageEmbedder
    ledger: Ledger
    options: IndexingOptions
    progress: Progress
    tally: Tally

    async def run(self, rejects: RejectsFile) -> PartReport:
        started = time.monotonic()
        ledger, options, tally, model = self.ledger, self.options, self.tally, self.embedder.model
        seen: list[str] = []

        def see(item_id: str) -> None:
            seen.append(item_id)
            if len(seen) == _IDS_AT_ONCE:
                ledger.see(seen)
                seen.clear()

        mine = PartitionSource(self.source, self.partition, see)
        facts = await asyncio.to_thread(mine.survey, self.options.columns)
        if await asyncio.to_thread(ledger.noted, _MODEL) != model.fingerprint:
            # Features of another model are of no use here.
            await asyncio.to_thread(ledger.keep_versions, [])
            await asyncio.to_thread(ledger.note, _MODEL, model.fingerprint)
        await asyncio.to_thread(ledger.start_seeing)
        self.progress.start(facts.total // self.partition.count)
        page = _PartPage(ledger, PART_VERSION, model.fingerprint)
        # The part is what is built and what it is compared with: whatever it holds needs no encoding.
        detector = ChangeDetector(ledger, PART_VERSION, PART_VERSION, options.checksum)
        await Pipeline(
            embedder=self.embedder,
            detector=detector,
            known=FeatureReuse(ledger, model.fingerprint, None, self.progress.stage),
            page=page,
            writer=_PartWriter(page, tally),
            rejects=rejects,
            sample=Sample(0),
            tally=tally,
            options=options,
            progress=self.progress,
        ).run(mine, facts.schema)
        await asyncio.to_thread(ledger.see, seen)
        gone = await asyncio.to_thread(ledger.unseen, PART_VERSION)
        await asyncio.to_thread(ledger.remove, PART_VERSION, gone)
        written = await asyncio.to_thread(ledger.written, PART_VERSION)
        if tally.found != tally.done or written != tally.changes.total():
            raise VersionIncomplete(
                f"partition {self.partition}: {tally.found} items were read, but {tally.changes.total()} "
                f"embedded and {tally.rejected} rejected, and the part holds {written}"
            )
        path = part_path(self.folder, self.partition)
        await asyncio.to_thread(ledger.drop_idle_features)
        sealed = PartFacts(
            number=self.partition.number,
            count=self.partition.count,
            catalog=self.catalog,
            source=mine.digest.text,
            found=tally.found,
            written=written,
            rejected=tally.rejected,
            model=PartFacts.model_text(model),
            image_bytes=self.embedder.image_bytes,
        )
        await asyncio.to_thread(seal_part, ledger, path, sealed)
        return PartReport(
            catalog=self.catalog,
            partition=str(self.partition),
            path=path,
            model_fingerprint=model.fingerprint,
            read=tally.found,
            indexed=tally.indexed,
            unchanged=tally.unchanged,
            rejected=tally.rejected,
            reject_reasons=dict(tally.rejects),
            rejects_path=rejects.path if tally.rejected else None,
            seconds=time.monotonic() - started,
            notes=facts.notes,
            passed_over=facts.passed_over,
        )


class _PartWriter:
    """Writes into the part what a run would write into a version."""

    def __init__(self, page: LedgerPage, tally: Tally) -> None:
        self._page = page
        self._tally = tally

    async def write(self, items: Sequence[EmbeddedItem]) -> None:
        await asyncio.to_thread(self._page.acknowledge, items)
        self._tally.count(item.change for item in items)


class _PartPage(LedgerPage):
    """Rows of a part. To the next run of the partition, what is written is unchanged.

    Rejects of the embedder are kept; all others are found again, without cost, when the parts are merged.
    """

    def acknowledge(self, items: Sequence[EmbeddedItem]) -> None:
        LedgerPage.acknowledge(self, [replace(item, change=Change.UNCHANGED) for item in items])

    def reject(self, reject: Reject, item: SourceItem | None, stamp: ContentStamp) -> None:
        if reject.reason == ID_DUPLICATE:
            return  # the first item of that id stays
        # What an earlier run wrote for it is not true any more.
        self.ledger.remove(self.version, [reject.id])
        if item is not None:
            LedgerPage.reject(self, reject, item, stamp)


def _open(folder: Path, partition: Partition, catalog: str) -> Ledger:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PartsError(f"folder of parts {folder} cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise PartsError(f"folder of parts {folder} cannot be written; name another with `parts`")
    path = work_ledger_path(folder, partition)
    try:
        return Ledger.open(path, catalog=catalog, store=f"partition {partition} of a run")
    except LedgerDamaged as error:
        raise PartsError(
            f"working file {path} is damaged; delete it and run the partition again, which embeds all of its "
            "images. Finished parts are not affected"
        ) from error


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
    and of the source as it is now.

    Raises:
        PartsError: the parts do not fit.
        IndexingError: as `index` raises it.
    """
    options, progress = options or IndexingOptions(), progress or SilentProgress()
    opened = open_parts(folder, catalog)
    try:
        parts = await asyncio.to_thread(opened.__enter__)
        try:
            facts = await asyncio.to_thread(_survey_and_check, source, parts, options.columns)
            check_rejects(source, catalog, options)
            return await index_with(source, facts, catalog, store, parts, options, progress, parts=parts)
        finally:
            await asyncio.shield(asyncio.to_thread(opened.__exit__, None, None, None))
    finally:
        progress.stop()


def _survey_and_check(source: Source, parts: Parts, columns: Sequence[str]) -> SourceFacts:
    facts = source.survey(columns)
    digest = SourceDigest(facts.schema)
    for item in source.items():
        digest.add(item)
    parts.check_source(digest)
    return facts
