"""Versions of the catalog that a run meets: the previous one, which it builds upon, and the one being built.

A build is started anew, or resumed after a run that was interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from cir.common.v1.model_pb2 import ModelInfo
from cir.models import model_facts
from indexer.errors import CarryFailed
from indexer.ledger import Ledger
from indexer.options import IndexingOptions
from indexer.sources.base import SourceFacts
from vector_store.base import CatalogVersion, VectorStore, VersionWriter
from vector_store.copy import iterate_pages
from vector_store.errors import CatalogNotFoundError, StoreDamagedError, StoreError, StoreLockedError
from vector_store.types import VersionInfo, VersionSpec, VersionState
from vector_store.versions import spec_to_document


def version_spec(model: ModelInfo, facts: SourceFacts, options: IndexingOptions) -> VersionSpec:
    """The specification of a new version from the embedder's answer and the source's facts."""
    return VersionSpec(
        dimension=model.dimension,
        model_fingerprint=model.fingerprint,
        schema=dict(facts.schema),
        model=model_facts(model),
        index=options.vector_index,
        image_folders=facts.image_folders,
    )


class PreviousVersion:
    """A complete version of the catalog, opened when something of it is first read.

    `key` is its number in the ledger. On an embedded store its files are copied, because another
    process serves them, so it is better not opened at all when everything needed is known.
    """

    def __init__(self, store: VectorStore, info: VersionInfo, key: int, opened: AsyncExitStack) -> None:
        self.info = info
        self.key = key
        #: Who holds the version, or what is damaged, once opening it has failed for that.
        self.unreadable = ""
        self._store = store
        self._opened = opened
        self._reader: CatalogVersion | None = None
        self._gate = asyncio.Lock()

    async def reader(self) -> CatalogVersion | None:
        """The version, open for reading; None where it is damaged, or another process lets nobody copy it."""
        async with self._gate:
            if self._reader is None and not self.unreadable:
                try:
                    self._reader = await self._opened.enter_async_context(
                        self._store.open_frozen_version(self.info.catalog, self.info.version)
                    )
                except (StoreLockedError, StoreDamagedError) as error:
                    self.unreadable = str(error)
        return self._reader

    async def is_known(self, ledger: Ledger) -> bool:
        """Return whether it holds just what the ledger says: it was built so, and nobody changed it since."""
        return not self.info.changed_online and self.info.points == await asyncio.to_thread(
            ledger.written, self.key
        )

    def same_model(self, spec: VersionSpec) -> bool:
        """Return whether its vectors are of the model of `spec`."""
        mine = self.info.spec
        return (mine.model_fingerprint, mine.dimension) == (spec.model_fingerprint, spec.dimension)


@asynccontextmanager
async def open_previous_version(
    store: VectorStore, ledger: Ledger, info: VersionInfo | None
) -> AsyncIterator[PreviousVersion | None]:
    """A version to build upon; None where there is none. Closed at the end of the block."""
    if info is None:
        yield None
        return
    async with AsyncExitStack() as opened:
        yield PreviousVersion(store, info, await asyncio.to_thread(ledger.key, info), opened)


async def missing_ids(previous: PreviousVersion | None, ledger: Ledger) -> list[str]:
    """Return ids that the previous version holds and the source, as far as the ledger has seen it, does not.

    Raises:
        CarryFailed: the ledger knows other items than the version holds (it is new, or the version was
            changed online), and the version cannot be read.
    """
    if previous is None:
        return []
    if await previous.is_known(ledger):
        return await asyncio.to_thread(ledger.unseen, previous.key)
    reader = await previous.reader()
    if reader is None:
        raise CarryFailed(
            f"the ledger {ledger.path} does not know all items of version {previous.info.version}, which "
            f"must be read for that; {previous.unreadable}. Nothing was changed"
        )
    missing: list[str] = []
    async for page in iterate_pages(reader):
        ids = [item.id for item in page]
        seen = await asyncio.to_thread(ledger.has_seen, ids)
        missing += [item_id for item_id, known in zip(ids, seen, strict=True) if not known]
    return missing


_POINTER, _CREATING = "building", "creating"


@dataclass(frozen=True, slots=True)
class Build:
    """An open writer, its version's key in the ledger, and whether an earlier run began it."""

    writer: VersionWriter
    key: int
    resumed: bool


async def list_versions(store: VectorStore, catalog: str) -> list[VersionInfo]:
    """The versions of a catalog, none where it does not exist yet."""
    try:
        return await store.list_versions(catalog)
    except CatalogNotFoundError:
        return []


def published_version(infos: Sequence[VersionInfo]) -> VersionInfo | None:
    """The published one among versions."""
    return next((info for info in infos if info.state is VersionState.PUBLISHED), None)


async def recover_build(
    store: VectorStore, catalog: str, spec: VersionSpec, ledger: Ledger
) -> tuple[VersionInfo | None, VersionInfo | None]:
    """Return what the last run left: the version to build upon, and the unfinished one to go on with.

    A version that was finished but not published is built upon; one that cannot be continued, because the
    model, the schema or the published version is another one now, is dropped.
    """
    infos = await list_versions(store, catalog)
    published = published_version(infos)
    await _drop_orphans(store, catalog, infos, ledger)
    pointer = await asyncio.to_thread(ledger.noted, _POINTER)
    if pointer is None:
        return published, None
    left = next((i for i in infos if [i.version, i.created.isoformat()] == pointer["version"]), None)
    fits = pointer["base"] == _identity(published) and pointer["spec"] == spec_to_document(spec)
    if left is not None and fits and left.state is VersionState.BUILDING:
        return published, left
    await asyncio.to_thread(ledger.note, _POINTER, None)
    if left is None or left.state in (VersionState.PUBLISHED, VersionState.RETIRED):
        return published, None
    if fits:
        return left, None
    with suppress(StoreError):
        await store.delete_version(catalog, left.version)
    return published, None


async def start_build(
    store: VectorStore,
    catalog: str,
    spec: VersionSpec,
    ledger: Ledger,
    left: VersionInfo | None,
    published: VersionInfo | None,
) -> Build:
    """Open `left` again where it can be, else a new version."""
    if left is not None:
        build = await _resume(store, catalog, ledger, left)
        if build is not None:
            return build
    building = [i.version for i in await list_versions(store, catalog) if i.state is VersionState.BUILDING]
    # Should the process die before the new version's name is noted, the next one finds it by this.
    await asyncio.to_thread(ledger.note, _CREATING, building)
    writer = await store.create_version(catalog, spec)
    pointer = {
        "version": _identity(writer.info),
        "base": _identity(published),
        "spec": spec_to_document(spec),
    }
    await asyncio.to_thread(ledger.note, _POINTER, pointer)
    await asyncio.to_thread(ledger.note, _CREATING, None)
    return Build(writer, await asyncio.to_thread(ledger.key, writer.info), resumed=False)


async def clear_build(ledger: Ledger) -> None:
    """Note that nothing is being built any more."""
    await asyncio.to_thread(ledger.note, _POINTER, None)


async def _resume(store: VectorStore, catalog: str, ledger: Ledger, left: VersionInfo) -> Build | None:
    key = await asyncio.to_thread(ledger.key, left)
    writer = await store.resume_version(catalog, left.version)
    unsure = await asyncio.to_thread(ledger.in_state, key, "writing")
    # Written or not, nobody knows: away with them, so that they are written again or not at all.
    for start in range(0, len(unsure), 1000):
        await writer.delete(unsure[start : start + 1000])
    # What was rejected then says nothing of the source and its columns of today.
    rejected = await asyncio.to_thread(ledger.in_state, key, "rejected")
    await asyncio.to_thread(ledger.remove, key, [*unsure, *rejected])
    if await writer.count() == await asyncio.to_thread(ledger.written, key):
        return Build(writer, key, resumed=True)
    # The store holds something else than it acknowledged, as after a restored backup: begin anew.
    await writer.abort()
    return None


async def _drop_orphans(
    store: VectorStore, catalog: str, infos: Sequence[VersionInfo], ledger: Ledger
) -> None:
    before = await asyncio.to_thread(ledger.noted, _CREATING)
    if before is None:
        return
    pointer = await asyncio.to_thread(ledger.noted, _POINTER)
    for info in infos:
        known = info.version in before or (pointer and pointer["version"] == _identity(info))
        if info.state is VersionState.BUILDING and not known:
            with suppress(StoreError):
                await store.delete_version(catalog, info.version)
    await asyncio.to_thread(ledger.note, _CREATING, None)


def _identity(info: VersionInfo | None) -> list[str] | None:
    return None if info is None else [info.version, info.created.isoformat()]
