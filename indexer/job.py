"""One run against an open store, embedder and ledger: look, decide, build, prove, publish."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from indexer import building
from indexer.base import Base, gone, open_base
from indexer.carry import carry
from indexer.changes import Change
from indexer.checks import check_counts, check_deletions, check_model
from indexer.errors import VersionIncomplete
from indexer.features import KnownFeatures
from indexer.image_embedder import ImageEmbedder
from indexer.ledger import Ledger
from indexer.near_duplicates import write_near_duplicates
from indexer.options import IndexingOptions
from indexer.outlook import Outlook, look_over
from indexer.parts import Parts
from indexer.pipeline import Pipeline
from indexer.progress import Progress
from indexer.rebuild import rebuild
from indexer.recognise import Recogniser
from indexer.rejects import RejectsFile
from indexer.report import IndexReport, Tally
from indexer.source import Source, SourceFacts
from indexer.verify import Sample, verify_version
from indexer.version_spec import version_spec
from indexer.write import BatchWriter, LedgerPage
from vector_store.base import VectorStore, VersionWriter
from vector_store.errors import StoreError
from vector_store.types import VersionInfo, VersionSpec, VersionState


@dataclass(slots=True)
class Job:
    """A run's parts. `run` may be called once."""

    source: Source
    facts: SourceFacts
    catalog: str
    store: VectorStore
    embedder: ImageEmbedder
    ledger: Ledger
    options: IndexingOptions
    progress: Progress
    parts: Parts | None = None
    notes: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    async def run(self) -> IndexReport:
        """Publish, or find out that there is nothing to do. Raises `IndexingError` and `StoreError`."""
        options = self.options
        spec = version_spec(self.embedder.model, self.facts.schema, options)
        published = building.published_of(await building.versions_of(self.store, self.catalog))
        spec = _with_fields_of(published, spec, options)
        foundation, left = published, None
        if not options.dry_run:
            foundation, left = await building.settle(self.store, self.catalog, spec, self.ledger)
        async with open_base(self.store, self.ledger, foundation) as base:
            await self._know(base)
            fits = base is not None and base.same_model(spec)
            recogniser = self._recogniser(base if fits else None)
            with self._rejects(Tally()) as rejects:
                outlook = await asyncio.to_thread(
                    look_over,
                    self.source,
                    spec.schema,
                    recogniser,
                    max_bytes=self.embedder.image_bytes,
                    whole=options.dry_run,
                    on_reject=rejects.write,
                )
                missing = await gone(base, self.ledger)
                check_model(base, fits, missing, options)
                if not options.dry_run:
                    check_deletions(base, missing, options)
                changes = (
                    outlook.different
                    or (options.sync and missing)
                    or base is None
                    or not _same_kind(base.info.spec, spec)
                    or not await base.is_known(self.ledger)
                )
                if options.dry_run or not (changes or options.always_publish or left):
                    check_counts(outlook.tally, rejects.path, options)
                    return await self._unbuilt(base, outlook, missing, rejects, spec)
            return await self._build(base, fits, left, published, spec, missing)

    def _recogniser(self, base: Base | None, building: int | None = None) -> Recogniser:
        key = base.key if base is not None else None
        return Recogniser(self.ledger, key, building, self.options.checksum, self.parts)

    async def _know(self, base: Base | None) -> None:
        if base is None:
            return
        if base.info.changed_online:
            self._note(
                f"version {base.info.version} was changed online: items of the source are written again as "
                "they are there, others " + ("are deleted" if self.options.sync else "stay")
            )
        if self.options.rebuild_ledger:
            known = await rebuild(self.source, self.facts, base, self.ledger, self.embedder.image_bytes)
            self._note(f"the ledger was rebuilt from version {base.info.version}: {known} pictures are known")
        elif base.info.points and not await asyncio.to_thread(self.ledger.written, base.key):
            self._note(
                f"the ledger {self.ledger.path} knows nothing of version {base.info.version}, so all "
                "pictures are encoded again; --rebuild-ledger takes over those that have not changed since"
            )

    async def _unbuilt(
        self,
        base: Base | None,
        outlook: Outlook,
        missing: Sequence[str],
        rejects: RejectsFile,
        spec: VersionSpec,
    ) -> IndexReport:
        """The end of a run that builds nothing; a finished version that was left is published."""
        info, published = (base.info if base else None), False
        if info and info.state is VersionState.READY and not self.options.dry_run:
            await verify_version(self.store, self.catalog, info.version, Sample(0), info.points)
            info, published = await self._publish(info), True
        pairs = None
        if base and not self.options.dry_run and self.options.near_duplicates_path:
            pairs = await self._near_duplicates(base.info.version)
        return self._report(
            info.version if info else "",
            spec,
            outlook.tally,
            rejects,
            deleted=len(missing) if self.options.sync else 0,
            carried=0 if self.options.sync else len(missing),
            published=published,
            near_duplicates=pairs,
        )

    async def _build(
        self,
        base: Base | None,
        fits: bool,
        left: VersionInfo | None,
        published: VersionInfo | None,
        spec: VersionSpec,
        missing: Sequence[str],
    ) -> IndexReport:
        options, ledger = self.options, self.ledger
        tally, sample = Tally(), Sample(options.verify_items)
        started = time.monotonic()
        with self._rejects(tally) as rejects:
            build = await building.begin(self.store, self.catalog, spec, ledger, left, published)
            if build.resumed:
                self._note(f"going on with version {build.writer.info.version}, which a run left unfinished")
            async with self._kept(build.writer, tally) as writer:
                self.progress.start(self.facts.total)
                model = self.embedder.model.fingerprint
                page = LedgerPage(ledger, build.key, model if options.keep_features else "")
                batch_writer = BatchWriter(
                    writer,
                    page,
                    tally,
                    write_items=options.write_items,
                    retry_seconds=options.retry_seconds,
                )
                pipeline = Pipeline(
                    embedder=self.embedder,
                    recogniser=self._recogniser(base if fits else None, build.key),
                    known=KnownFeatures(ledger, model, base, self._note, self.parts),
                    page=page,
                    writer=batch_writer,
                    rejects=rejects,
                    sample=sample,
                    tally=tally,
                    options=options,
                    progress=self.progress,
                )
                await pipeline.run(self.source, spec.schema)
                await self._drop_unseen(writer, build.key)
                if base is not None and fits:
                    refused = await asyncio.to_thread(ledger.in_state, build.key, "rejected")
                    staying = refused if options.sync else [*missing, *refused]
                    await carry(staying, base, ledger, build.key, batch_writer, tally, spec.schema)
                check_counts(tally, rejects.path, options)
                if self._same_after_all(base, spec, tally, missing):
                    return await self._given_up(base, build, writer, tally, rejects, missing, spec)
                held = await asyncio.to_thread(ledger.written, build.key)
                if (count := await writer.count()) != held:
                    raise VersionIncomplete(f"the store holds {count} items where {held} were written")
                self.progress.stage("building the vector index")
                info = await writer.finish()
                self.progress.stage("verifying")
                await verify_version(self.store, self.catalog, info.version, sample, held)
                pairs = None
                if options.near_duplicates_path:
                    pairs = await self._near_duplicates(info.version)
                info = await self._publish(info, drop=base.info if base else None)
        return self._report(
            info.version,
            spec,
            tally,
            rejects,
            deleted=len(missing) if options.sync else 0,
            published=True,
            resumed=build.resumed,
            near_duplicates=pairs,
            seconds=time.monotonic() - started,
        )

    @asynccontextmanager
    async def _kept(self, writer: VersionWriter, tally: Tally) -> AsyncIterator[VersionWriter]:
        """Keep what was written when the block fails or is cancelled; drop what is proved wrong or empty."""
        try:
            yield writer
        except BaseException as error:
            drop = isinstance(error, VersionIncomplete) or not tally.changes
            # Shielded, so that a second Ctrl-C does not leave the version locked.
            await asyncio.shield(self._let_go(writer, drop=drop))
            raise

    async def _let_go(self, writer: VersionWriter, *, drop: bool) -> None:
        # What went wrong before is the error to tell; what cannot be dropped now is never published.
        with suppress(StoreError, OSError):
            await (writer.abort() if drop else writer.close())
        if drop:
            with suppress(StoreError, OSError):
                # Already finished, the version is not the writer's any more.
                await self.store.delete_version(self.catalog, writer.info.version)
            await building.forget(self.ledger)

    async def _drop_unseen(self, writer: VersionWriter, key: int) -> None:
        """Remove what an interrupted run wrote and the source does not have any more."""
        unseen = await asyncio.to_thread(self.ledger.unseen, key)
        for start in range(0, len(unseen), 1000):
            await writer.delete(unseen[start : start + 1000])
        await asyncio.to_thread(self.ledger.remove, key, unseen)

    def _same_after_all(
        self, base: Base | None, spec: VersionSpec, tally: Tally, missing: Sequence[str]
    ) -> bool:
        """Whether what looked like a change came to nothing, such as a new picture that was rejected."""
        same = {Change.UNCHANGED, Change.CARRIED}
        return (
            base is not None
            and not self.options.always_publish
            and not (self.options.sync and missing)
            and base.info.state is VersionState.PUBLISHED
            and not base.info.changed_online
            and _same_kind(base.info.spec, spec)
            and tally.changes.keys() <= same
            and tally.changes.total() == base.info.points
        )

    async def _given_up(
        self,
        base: Base | None,
        build: building.Build,
        writer: VersionWriter,
        tally: Tally,
        rejects: RejectsFile,
        missing: Sequence[str],
        spec: VersionSpec,
    ) -> IndexReport:
        assert base is not None  # noqa: S101  # there is nothing to be the same as without one
        await writer.abort()
        await building.forget(self.ledger)
        await asyncio.to_thread(self.ledger.take_rejects, build.key, base.key)
        return self._report(base.info.version, spec, tally, rejects, published=False)

    async def _publish(self, info: VersionInfo, drop: VersionInfo | None = None) -> VersionInfo:
        info = await self.store.publish(self.catalog, info.version, keep=self.options.keep_versions)
        await building.forget(self.ledger)
        if drop is not None and drop.state is VersionState.READY:
            # Finished by an interrupted run and overtaken by this one.
            with suppress(StoreError):
                await self.store.delete_version(self.catalog, drop.version)
        infos = await building.versions_of(self.store, self.catalog)
        await asyncio.to_thread(self.ledger.keep_versions, infos)
        return info

    async def _near_duplicates(self, version: str) -> int:
        assert self.options.near_duplicates_path is not None  # noqa: S101  # asked by the callers
        self.progress.stage("looking for near-duplicates")
        async with self.store.reader(self.catalog, version) as reader:
            return await write_near_duplicates(
                reader, self.options.near_duplicates_path, self.options.near_duplicates_cosine
            )

    def _rejects(self, tally: Tally) -> RejectsFile:
        path = self.options.rejects_path or self.source.rejects_path
        return RejectsFile(path, tally.rejects, writing=not self.options.dry_run)

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self.progress.stage(text)

    def _report(
        self,
        version: str,
        spec: VersionSpec,
        tally: Tally,
        rejects: RejectsFile,
        *,
        published: bool,
        deleted: int = 0,
        carried: int | None = None,
        resumed: bool = False,
        near_duplicates: int | None = None,
        seconds: float | None = None,
    ) -> IndexReport:
        changes: Mapping[str, int] = {str(change): tally.changes[change] for change in Change}
        return IndexReport(
            catalog=self.catalog,
            version=version,
            model_fingerprint=spec.model_fingerprint,
            schema=spec.schema,
            read=tally.found,
            indexed=tally.indexed,
            rejected=tally.rejected,
            reject_reasons=dict(tally.rejects),
            rejects_path=rejects.path if tally.rejected and not self.options.dry_run else None,
            seconds=time.monotonic() - self.started if seconds is None else seconds,
            notes=(*self.facts.notes, *self.notes),
            unchanged=tally.unchanged,
            carried=tally.carried if carried is None else carried,
            deleted=deleted,
            changes=changes,
            published=published,
            resumed=resumed,
            dry_run=self.options.dry_run,
            near_duplicates=near_duplicates,
        )


def _same_kind(mine: VersionSpec, other: VersionSpec) -> bool:
    """Whether two specifications differ in nothing but facts about the model that are only shown."""
    return replace(mine, model={}) == replace(other, model={})


def _with_fields_of(
    published: VersionInfo | None, spec: VersionSpec, options: IndexingOptions
) -> VersionSpec:
    """The specification with the fields of items that stay and that the source does not have."""
    if published is None or options.sync:
        return spec
    return replace(spec, schema={**published.spec.schema, **spec.schema})
