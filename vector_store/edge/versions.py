"""Versions that this process has open for reading, each opened once and shared by its readers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from vector_store.edge import EdgeOptions
from vector_store.edge.background import BackgroundIndex, remove_other_shards
from vector_store.edge.catalogs import EdgeCatalogs
from vector_store.edge.executor import StoreExecutor
from vector_store.edge.files import (
    FIRST_SHARD,
    check_disk_space,
    remove_checksums,
    verify_checksums,
    write_checksums,
)
from vector_store.edge.locks import FileLock, WriteLock, holder_of
from vector_store.edge.points import EdgePoints
from vector_store.edge.shard import OpenShard
from vector_store.errors import (
    CatalogNotFoundError,
    StoreError,
    StoreLockedError,
    VersionConflictError,
    VersionNotFoundError,
)
from vector_store.types import VersionInfo, VersionState, version_label
from vector_store.versions import PublishHistory

T = TypeVar("T")
_Signature = tuple[int, int, int]

# How often a published version may vanish between being looked up and being opened, before giving up.
_TRIES = 5


@dataclass(slots=True)
class OpenVersion:
    """An open shard, its lock, and how many readers are pinned to it."""

    info: VersionInfo
    points: EdgePoints
    lock: FileLock
    shard: str = FIRST_SHARD
    pins: int = 0
    changed: bool = False
    indexing: BackgroundIndex | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.info.catalog, self.info.version


class EdgeVersions:
    """Versions open in this process, pinned by their readers.

    The published version stays open between readers, others do not.
    """

    def __init__(
        self, catalogs: EdgeCatalogs, executor: StoreExecutor, options: EdgeOptions, quantize_above_bytes: int
    ) -> None:
        self._catalogs = catalogs
        self._options = options
        self._quantize_above_bytes = quantize_above_bytes
        self._executor = executor
        self._open: dict[tuple[str, str], OpenVersion] = {}
        self._histories: dict[str, tuple[_Signature, PublishHistory]] = {}
        # One at a time opens or closes: a shard being closed is locked until that is done.
        self._opening = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def pin(self, catalog: str, version: str) -> OpenVersion:
        """Open the published version, or the one named, unless it is open already; `unpin` it once."""
        for attempt in range(_TRIES):
            known = self._known_history(catalog)
            history = await self._executor.run(self._history, catalog) if known is None else known
            name = version or history.published
            if not name:
                # The catalog may have been dropped by another process, which waits for this one to let go.
                self._close_idle(catalog, "")
                await self._executor.run(self._catalogs.versions, catalog)
                raise CatalogNotFoundError(
                    f"catalog {catalog!r} has no published version yet; publish one first"
                )
            if version:
                # Named, so it may be open here still for readers that came before it was dropped.
                await self._executor.run(self._catalogs.version, catalog, version)
            try:
                opened = self._open.get((catalog, name))
                # One that was opened for this reader may be closed as idle before the reader comes to pin it.
                while opened is None or self._open.get(opened.key) is not opened:
                    opened = await self._open_version(catalog, name)
            except VersionNotFoundError:
                # Another process published and dropped what was published a moment ago.
                if version or attempt == _TRIES - 1:
                    raise
                continue
            opened.pins += 1
            self._close_idle(catalog, history.published)
            opened.info = replace(opened.info, state=history.state_of(name, complete=True))
            return opened
        raise AssertionError("unreachable")

    def unpin(self, opened: OpenVersion) -> None:
        """Note that a reader is done."""
        opened.pins -= 1
        if opened.pins == 0:
            known = self._histories.get(opened.info.catalog)
            self._close_idle(opened.info.catalog, known[1].published if known else "")

    def close_dropped(self, catalog: str) -> None:
        """Close versions of `catalog` that nobody reads, save for the one that is published now."""
        self._close_idle(catalog, self._catalogs.history(catalog).published)

    async def has_open(self, catalog: str, version: str) -> bool:
        """Return whether this process has a version ('' = the published one) open."""
        if not version:
            version = (await self._executor.run(self._history, catalog)).published
        return (catalog, version) in self._open

    async def settle(self) -> None:
        """Wait for closing that is under way."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def record_points(self, opened: OpenVersion) -> None:
        """Note how many points an open version holds after an online change; index many of them."""
        async with self._opening:
            await self._record_points(opened)
        if opened.indexing is not None and self._open.get(opened.key) is opened:
            # The change itself is done, whatever becomes of this.
            with suppress(StoreError):
                await opened.indexing.start_if_needed()

    async def close(self) -> None:
        """Close every open version; calls that run finish first."""
        await self.settle()
        for opened in list(self._open.values()):
            await self._close_version(opened, force=True)
        await self.settle()

    async def _record_points(self, opened: OpenVersion) -> None:
        opened.info = replace(opened.info, points=await opened.points.count(None))
        if not await self._executor.run(self._catalogs.is_dropped, *opened.key):
            await self._executor.run(self._catalogs.write, opened.info, opened.shard)

    async def _open_version(self, catalog: str, version: str) -> OpenVersion:
        # Not the caller's to cancel: a shard that a thread has loaded must be entered, or it stays locked.
        return await asyncio.shield(self._spawn(self._open_once(catalog, version)))

    async def _open_once(self, catalog: str, version: str) -> OpenVersion:
        async with self._opening:
            opened = self._open.get((catalog, version))
            if opened is None:
                opened = await self._executor.run(self._load, catalog, version)
                self._open[opened.key] = opened
                # A process that died between a change and its note leaves a wrong number behind.
                if await opened.points.count(None) != opened.info.points:
                    await self._record_points(opened)
                opened.indexing = BackgroundIndex(
                    opened,
                    self._catalogs,
                    self._executor,
                    self._opening,
                    self._options,
                    self._quantize_above_bytes,
                )
                await opened.indexing.start_if_needed()
            return opened

    def _load(self, catalog: str, version: str) -> OpenVersion:
        info = self._catalogs.version(catalog, version)
        if info.state is VersionState.BUILDING:
            raise VersionConflictError(f"{version_label(catalog, version)} is still being built")
        path = self._catalogs.layout.lock(catalog, version)
        lock = FileLock(path)
        try:
            acquired = lock.acquire("reading it")
        except FileNotFoundError:
            raise VersionNotFoundError(f"{version_label(catalog, version)} was dropped") from None
        if not acquired:
            raise StoreLockedError(
                f"{version_label(catalog, version)} is open in {holder_of(path)}, and one process "
                "at a time owns a version of an embedded store: ask that search service, or stop it"
            )
        try:
            # Once more under the lock: it may have been dropped or changed before that.
            info = self._catalogs.version(catalog, version)
            layout = self._catalogs.layout
            shard, sums = self._catalogs.shard(catalog, version), layout.checksums(catalog, version)
            name = version_label(catalog, version)
            remove_other_shards(layout.version(catalog, version), shard.name)
            verify_checksums(shard, sums, name)

            def before_write() -> None:
                check_disk_space(layout.root, self._options.min_free_bytes, f"write {name}")
                if not opened.changed:
                    self._catalogs.mark_changed(catalog, version)
                    remove_checksums(sums)
                    opened.changed = True

            write_lock = WriteLock(layout.write_lock(catalog, version))
            points = EdgePoints(
                OpenShard.load(shard, write_lock, name, before_write), self._executor.pool, name
            )
            opened = OpenVersion(info, points, lock, shard.name)
        except BaseException:
            lock.release()
            raise
        return opened

    def _known_history(self, catalog: str) -> PublishHistory | None:
        """Return the publish history, None when its file was replaced since it was read.

        A local file's status takes microseconds, where a thread would take a hundred of them.
        """
        known = self._histories.get(catalog)
        return known[1] if known and known[0] == self._signature(catalog) else None

    def _history(self, catalog: str) -> PublishHistory:
        """Read the publish history from its file."""
        signature = self._signature(catalog)
        if signature is None:
            self._histories.pop(catalog, None)
            return PublishHistory()
        history = self._catalogs.history(catalog)
        self._histories[catalog] = signature, history
        return history

    def _signature(self, catalog: str) -> _Signature | None:
        try:
            status = os.stat(self._catalogs.layout.current(catalog))
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _close_idle(self, catalog: str, published: str) -> None:
        for (name, version), opened in list(self._open.items()):
            if name == catalog and version != published and opened.pins == 0:
                self._spawn(self._close_version(opened, force=False))

    async def _close_version(self, opened: OpenVersion, *, force: bool) -> None:
        async with self._opening:
            if self._open.get(opened.key) is not opened or (opened.pins and not force):
                return
            del self._open[opened.key]
            try:
                if opened.indexing is not None:
                    await opened.indexing.stop()
                await opened.points.close()
                dropped = await self._executor.run(self._catalogs.is_dropped, *opened.key)
                if opened.changed and not dropped:
                    layout = self._catalogs.layout
                    shard = layout.shard(*opened.key, opened.shard)
                    await self._executor.run(write_checksums, shard, layout.checksums(*opened.key))
            finally:
                opened.lock.release()
            if await self._executor.run(self._catalogs.is_dropped, *opened.key):
                await self._executor.run(self._catalogs.sweep, opened.info.catalog)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
