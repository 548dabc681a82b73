"""A whole run, from the source's survey to a published version: plan, build, verify, publish."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from indexer import versions
from indexer.changes import ChangeDetector, Plan, plan_run
from indexer.embed import ImageEmbedder, open_embedder
from indexer.errors import IndexingError, VersionIncomplete
from indexer.items import Change
from indexer.ledger import Ledger
from indexer.ledger_rebuild import rebuild, set_aside
from indexer.near_duplicates import write_near_duplicates
from indexer.options import IndexingOptions
from indexer.parts import Parts
from indexer.pipeline import Pipeline
from indexer.progress import Progress, SilentProgress
from indexer.rejects import RejectsFile, rejects_path
from indexer.report import IndexReport, Tally
from indexer.reuse import FeatureReuse, carry_over
from indexer.sources.base import Source, SourceFacts
from indexer.sources.image_folders import fold_folders
from indexer.verify import Sample, check_counts, check_deletions, check_model, verify_version
from indexer.versions import PreviousVersion, missing_ids, open_previous_version, version_spec
from indexer.write import BatchWriter, LedgerPage
from service_runtime.counted import counted
from vector_store.base import VectorStore, VersionWriter
from vector_store.errors import StoreError
from vector_store.types import VersionInfo, VersionSpec, VersionState, check_catalog_name


async def index(
    source: Source,
    catalog: str,
    store: VectorStore,
    embedder_address: str,
    options: IndexingOptions | None = None,
    progress: Progress | None = None,
) -> IndexReport:
    """Bring `catalog` to the state of `source` and publish it, if anything has changed.

    Images that the published version was made from are not encoded again. Items that the source does not have
    stay, unless the options say `sync`. The new version is published only when everything that the source
    gave is either in it or in the rejects file, counted in the store and proved on a sample; until then, and
    on any failure, the published one goes on serving. What a failed, cancelled or killed run has written is
    kept, and the next run goes on from there.

    The report's `complete` is False when items were rejected; a caller that has an exit code should say so
    loudly.

    Raises:
        IndexingError: the run cannot be carried out; see its subclasses. The message is made for people.
    """
    options, progress = options or IndexingOptions(), progress or SilentProgress()
    try:
        check_name(catalog)
        facts = await asyncio.to_thread(source.survey, options.columns)
        check_rejects(source, catalog, options)
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

    Raises:
        IndexingError: the run cannot be carried out.
    """
    for note in facts.notes:
        progress.stage(note)
    try:
        async with _ledger(source, catalog, store, options, progress) as ledger:
            job = IndexRun(
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


def check_rejects(source: Source, catalog: str, options: IndexingOptions) -> None:
    """Raise `IndexingError` unless what will be rejected has a place."""
    if not options.dry_run:
        RejectsFile.check(rejects_path(options.rejects_path, source.rejects_path(catalog)))


def check_name(catalog: str) -> None:
    """Raise `IndexingError` for a name that no catalog can have."""
    try:
        check_catalog_name(catalog)
    except ValueError as error:
        raise IndexingError(str(error)) from None


def default_ledger(source: Source, catalog: str) -> Path:
    """Return the ledger's default path, next to the source."""
    return source.beside.with_name(f"{catalog}.ledger.sqlite")


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


@dataclass(slots=True)
class IndexRun:
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
        """Publish, or find out that there is nothing to do.

        Raises:
            IndexingError: the version may not be published.
            StoreError: the store refuses.
        """
        options = self.options
        spec = version_spec(self.embedder.model, self.facts, options)
        published = versions.published_version(await versions.list_versions(self.store, self.catalog))
        spec = _with_facts_of(published, spec, options)
        foundation, left = published, None
        if not options.dry_run:
            foundation, left = await versions.recover_build(self.store, self.catalog, spec, self.ledger)
        async with open_previous_version(self.store, self.ledger, foundation) as previous:
            await self._know(previous)
            fits = previous is not None and previous.same_model(spec)
            detector = self._detector(previous if fits else None)
            with self._rejects(Tally()) as rejects:
                plan = await asyncio.to_thread(
                    plan_run,
                    self.source,
                    spec.schema,
                    detector,
                    max_bytes=self.embedder.image_bytes,
                    whole=options.dry_run,
                    on_reject=rejects.write,
                )
                missing = await missing_ids(previous, self.ledger)
                check_model(previous, fits, missing, options)
                if not options.dry_run:
                    check_deletions(previous, missing, options)
                changes = (
                    plan.different
                    or (options.sync and missing)
                    or previous is None
                    or not _same_kind(previous.info.spec, spec)
                    or previous.info.damaged
                    or not await previous.is_known(self.ledger)
                )
                if options.dry_run or not (changes or options.always_publish or left):
                    check_counts(plan.tally, rejects.path, options)
                    return await self._unbuilt(previous, plan, missing, rejects, spec)
            return await self._build(previous, fits, left, published, spec, missing)

    def _detector(self, previous: PreviousVersion | None, building: int | None = None) -> ChangeDetector:
        key = previous.key if previous is not None else None
        return ChangeDetector(self.ledger, key, building, self.options.checksum, self.parts)

    async def _know(self, previous: PreviousVersion | None) -> None:
        if previous is None:
            return
        if previous.info.changed_online:
            self._note(
                f"version {previous.info.version} was changed online: items of the source are written again "
                "as they are there, others " + ("are deleted" if self.options.sync else "stay")
            )
        if self.options.rebuild_ledger:
            known = await rebuild(self.source, self.facts, previous, self.ledger, self.embedder.image_bytes)
            self._note(
                f"the ledger was rebuilt from version {previous.info.version}: "
                f"{counted(known, 'image is', 'images are')} known"
            )
        elif previous.info.points and not await asyncio.to_thread(self.ledger.written, previous.key):
            self._note(
                f"the ledger {self.ledger.path} knows nothing of version {previous.info.version}, so all "
                "images are encoded again; `rebuild_ledger` takes over those that have not changed since"
            )

    async def _unbuilt(
        self,
        previous: PreviousVersion | None,
        plan: Plan,
        missing: Sequence[str],
        rejects: RejectsFile,
        spec: VersionSpec,
    ) -> IndexReport:
        """The end of a run that builds nothing; a finished version that was left is published."""
        info, published = (previous.info if previous else None), False
        if info and info.state is VersionState.READY and not self.options.dry_run:
            await verify_version(self.store, self.catalog, info.version, Sample(0), info.points)
            info, published = await self._publish(info), True
        pairs = None
        if previous and not self.options.dry_run and self.options.near_duplicates_path:
            pairs = await self._near_duplicates(previous.info.version)
        return self._report(
            info.version if info else "",
            spec,
            plan.tally,
            rejects,
            deleted=len(missing) if self.options.sync else 0,
            carried=0 if self.options.sync else len(missing),
            published=published,
            near_duplicates=pairs,
        )

    async def _build(
        self,
        previous: PreviousVersion | None,
        fits: bool,
        left: VersionInfo | None,
        published: VersionInfo | None,
        spec: VersionSpec,
        missing: Sequence[str],
    ) -> IndexReport:
        options, ledger = self.options, self.ledger
        tally, sample = Tally(), Sample(options.verify_items)
        left_out: list[str] = []
        started = time.monotonic()
        with self._rejects(tally) as rejects:
            build = await versions.start_build(self.store, self.catalog, spec, ledger, left, published)
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
                    detector=self._detector(previous if fits else None, build.key),
                    known=FeatureReuse(ledger, model, previous, self._note, self.parts),
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
                if previous is not None and fits:
                    refused = await asyncio.to_thread(ledger.in_state, build.key, "rejected")
                    staying = refused if options.sync else [*missing, *refused]
                    left_out = await carry_over(
                        staying,
                        previous,
                        ledger,
                        build.key,
                        batch_writer,
                        tally,
                        spec.schema,
                        rejected=refused,
                        leave_out=options.sync and options.allow_delete,
                    )
                    if left_out:
                        self._note(
                            f"{len(left_out)} rejected items, such as {left_out[0]!r}, are deleted: as they "
                            "were published they do not fit the new types"
                        )
                check_counts(tally, rejects.path, options)
                if self._same_after_all(previous, spec, tally, missing):
                    return await self._given_up(previous, build, writer, tally, rejects, missing, spec)
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
                info = await self._publish(info, drop=previous.info if previous else None)
        return self._report(
            info.version,
            spec,
            tally,
            rejects,
            deleted=len(left_out) + (len(missing) if options.sync else 0),
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
            await versions.clear_build(self.ledger)

    async def _drop_unseen(self, writer: VersionWriter, key: int) -> None:
        """Remove what an interrupted run wrote and the source does not have any more."""
        unseen = await asyncio.to_thread(self.ledger.unseen, key)
        for start in range(0, len(unseen), 1000):
            await writer.delete(unseen[start : start + 1000])
        await asyncio.to_thread(self.ledger.remove, key, unseen)

    def _same_after_all(
        self, previous: PreviousVersion | None, spec: VersionSpec, tally: Tally, missing: Sequence[str]
    ) -> bool:
        """Return whether what looked like a change came to nothing, such as a new image that was rejected."""
        same = {Change.UNCHANGED, Change.CARRIED}
        return (
            previous is not None
            and not self.options.always_publish
            and not (self.options.sync and missing)
            and previous.info.state is VersionState.PUBLISHED
            and not previous.info.changed_online
            and not previous.info.damaged
            and _same_kind(previous.info.spec, spec)
            and tally.changes.keys() <= same
            and tally.changes.total() == previous.info.points
        )

    async def _given_up(
        self,
        previous: PreviousVersion | None,
        build: versions.Build,
        writer: VersionWriter,
        tally: Tally,
        rejects: RejectsFile,
        missing: Sequence[str],
        spec: VersionSpec,
    ) -> IndexReport:
        assert previous is not None  # noqa: S101  # there is nothing to be the same as without one
        await writer.abort()
        await versions.clear_build(self.ledger)
        await asyncio.to_thread(self.ledger.take_rejects, build.key, previous.key)
        return self._report(previous.info.version, spec, tally, rejects, published=False)

    async def _publish(self, info: VersionInfo, drop: VersionInfo | None = None) -> VersionInfo:
        info = await self.store.publish(self.catalog, info.version, keep=self.options.keep_versions)
        await versions.clear_build(self.ledger)
        if drop is not None and drop.state is VersionState.READY:
            # Finished by an interrupted run and overtaken by this one.
            with suppress(StoreError):
                await self.store.delete_version(self.catalog, drop.version)
        infos = await versions.list_versions(self.store, self.catalog)
        await asyncio.to_thread(self.ledger.keep_versions, infos)
        return info

    async def _near_duplicates(self, version: str) -> int:
        assert self.options.near_duplicates_path is not None  # noqa: S101  # asked by the callers
        self.progress.stage("looking for near-duplicates")
        async with self.store.open_version(self.catalog, version) as reader:
            return await write_near_duplicates(
                reader, self.options.near_duplicates_path, self.options.near_duplicates_cosine
            )

    def _rejects(self, tally: Tally) -> RejectsFile:
        path = rejects_path(self.options.rejects_path, self.source.rejects_path(self.catalog))
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
            passed_over=self.facts.passed_over,
        )


def _same_kind(mine: VersionSpec, other: VersionSpec) -> bool:
    """Return whether two specifications differ in nothing but facts about the model that are only shown."""
    return replace(mine, model={}) == replace(other, model={})


def _with_facts_of(published: VersionInfo | None, spec: VersionSpec, options: IndexingOptions) -> VersionSpec:
    """The specification with the fields and folders of items that stay and that the source does not have."""
    if published is None or options.sync:
        return spec
    folders = fold_folders((*published.spec.image_folders, *spec.image_folders))
    return replace(spec, schema={**published.spec.schema, **spec.schema}, image_folders=folders)
