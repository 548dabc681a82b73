"""The version being built: begun, or continued after a run that was interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from indexer.ledger import Ledger
from vector_store.base import VectorStore, VersionWriter
from vector_store.errors import CatalogNotFoundError, StoreError
from vector_store.types import VersionInfo, VersionSpec, VersionState
from vector_store.versions import spec_to_document

_POINTER, _CREATING = "building", "creating"


@dataclass(frozen=True, slots=True)
class Build:
    """An open writer, its version's key in the ledger, and whether an earlier run began it."""

    writer: VersionWriter
    key: int
    resumed: bool


async def versions_of(store: VectorStore, catalog: str) -> list[VersionInfo]:
    """The versions of a catalog, none where it does not exist yet."""
    try:
        return await store.list_versions(catalog)
    except CatalogNotFoundError:
        return []


def published_of(infos: Sequence[VersionInfo]) -> VersionInfo | None:
    """The published one among versions."""
    return next((info for info in infos if info.state is VersionState.PUBLISHED), None)


async def settle(
    store: VectorStore, catalog: str, spec: VersionSpec, ledger: Ledger
) -> tuple[VersionInfo | None, VersionInfo | None]:
    """What the last run left: the version to build upon, and the unfinished one to go on with.

    A version that was finished but not published is built upon; one that cannot be continued, because the
    model, the schema or the published version is another one now, is dropped.
    """
    infos = await versions_of(store, catalog)
    published = published_of(infos)
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


async def begin(
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
    building = [i.version for i in await versions_of(store, catalog) if i.state is VersionState.BUILDING]
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


async def forget(ledger: Ledger) -> None:
    """Nothing is being built any more."""
    await asyncio.to_thread(ledger.note, _POINTER, None)


async def _resume(store: VectorStore, catalog: str, ledger: Ledger, left: VersionInfo) -> Build | None:
    key = await asyncio.to_thread(ledger.key, left)
    writer = await store.resume_version(catalog, left.version)
    unsure = await asyncio.to_thread(ledger.in_state, key, "writing")
    # Written or not, nobody knows: away with them, so that they are written again or not at all.
    for start in range(0, len(unsure), 1000):
        await writer.delete(unsure[start : start + 1000])
    await asyncio.to_thread(ledger.remove, key, unsure)
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
