"""Versions that this process has open for reading, each opened once and shared by its readers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from service_runtime.error_report import name_error
from service_runtime.logging import get_logger
from vector_store.edge import EdgeOptions
from vector_store.edge.background import BackgroundIndex, remove_other_shards
from vector_store.edge.background_check import BackgroundCheck, check_for
from vector_store.edge.catalogs import EdgeCatalogs
from vector_store.edge.executor import StoreExecutor
from vector_store.edge.files import FIRST_SHARD, check_disk_space
from vector_store.edge.locks import FileLock, WriteLock, holder_of
from vector_store.edge.noted import NotedFiles, VersionFiles
from vector_store.edge.points import EdgePoints
from vector_store.edge.shard import OpenShard, settle
from vector_store.edge.sums import Coverage
from vector_store.errors import (
    CatalogNotFoundError,
    StoreDamagedError,
    StoreError,
    StoreLockedError,
    VersionConflictError,
    VersionNotFoundError,
    damaged,
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
    files: VersionFiles
    shard: str = FIRST_SHARD
    coverage: Coverage = Coverage.OLDER
    pins: int = 0
    changed: bool = False
    damage: str = ""
    indexing: BackgroundIndex | None = None
    checking: BackgroundCheck | None = None

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
            if opened.damage:
                raise StoreDamagedError(opened.damage)
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
            await self._executor.run(self._catalogs.write, opened.info, opened.shard, opened.coverage)

    async def _open_version(self, catalog: str, version: str) -> OpenVersion:
        # Not the caller's to cancel: a shard that a thread has loaded must be entered, or it stays locked.
        return await asyncio.shield(self._spawn(self._open_once(catalog, version)))

    async def _open_once(self, catalog: str, version: str) -> OpenVersion:
        async with self._opening:
            known = self._open.get((catalog, version))
            if known is not None:
                return known
            try:
                opened, noted, left = await self._executor.run(self._load, catalog, version)
                self._open[opened.key] = opened
                await self._check_count(opened)
            except StoreDamagedError:
                self._options.on_damage(catalog, True)
                raise
            self._options.on_damage(catalog, False)
            if left is not None and self._options.verify_bytes_per_s:
                self._check_rest(opened, noted, left)
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

    async def _check_count(self, opened: OpenVersion) -> None:
        """Compare the number of items with the document's, which a process that died has left behind."""
        held = await opened.points.count(None)
        if held == opened.info.points:
            return
        if opened.coverage is Coverage.ALL:
            # Nothing has changed it, so something is not what it was.
            problem = f"it holds {held} items, not {opened.info.points}"
            opened.files.mark(problem)
            error = damaged(opened.info.label, problem)
            opened.damage = str(error)
            self._close_idle(opened.info.catalog, opened.info.version)
            raise error
        await self._record_points(opened)

    def _check_rest(self, opened: OpenVersion, noted: NotedFiles, left: Iterator[int]) -> None:
        """Begin comparing what the opening had no time for."""
        loop = asyncio.get_running_loop()

        def on_damage(error: StoreDamagedError) -> None:
            opened.damage = str(error)
            opened.points.refuse(opened.damage)
            self._options.on_damage(opened.info.catalog, True)
            # Closed as soon as nobody reads it, so that restored files are opened without a restart.
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._close_idle, opened.info.catalog, opened.info.version)

        opened.checking = BackgroundCheck(
            opened, noted, left, opened.files, self._options.verify_bytes_per_s, on_damage
        )

    def _load(self, catalog: str, version: str) -> tuple[OpenVersion, NotedFiles, Iterator[int] | None]:
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
            name = version_label(catalog, version)
            files = VersionFiles(self._catalogs, catalog, version)
            noted = files.noted()
            shard = noted.shard
            remove_other_shards(layout.version(catalog, version), shard.name)
            # Where damage was found before, all of it is compared: by chance it might not be met again.
            marked = info.damaged
            left = check_for(noted, files, float("inf") if marked else self._options.verify_open_s)

            def before_write() -> None:
                check_disk_space(layout.root, self._options.min_free_bytes, f"write {name}")
                if opened.changed:
                    return
                self._catalogs.mark_changed(catalog, version)
                if opened.coverage is Coverage.ALL:
                    self._catalogs.write(opened.info, opened.shard, Coverage.UNCHANGING)
                    opened.coverage = Coverage.UNCHANGING
                files.forget_older()
                opened.changed = True

            write_lock = WriteLock(layout.write_lock(catalog, version))
            try:
                loaded = OpenShard.load(shard, write_lock, name, before_write)
            except StoreDamagedError:
                files.mark(f"the engine cannot open {shard}")
                raise
            if marked:
                files.unmark()
            points = EdgePoints(loaded, self._executor.pool, name)
            opened = OpenVersion(info, points, lock, files, shard.name, noted.coverage)
        except BaseException:
            lock.release()
            raise
        return opened, noted, left

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
            idle = version != published or bool(opened.damage)
            if name == catalog and idle and opened.pins == 0:
                self._spawn(self._close_version(opened, force=False))

    async def _close_version(self, opened: OpenVersion, *, force: bool) -> None:
        async with self._opening:
            if self._open.get(opened.key) is not opened or (opened.pins and not force):
                return
            del self._open[opened.key]
            try:
                if opened.indexing is not None:
                    await opened.indexing.stop()
                if opened.checking is not None:
                    await self._executor.run(opened.checking.stop)
                changed = opened.changed or opened.coverage is Coverage.UNCHANGING
                if changed and not opened.damage:
                    # A caller that was cancelled has not noted its change.
                    opened.info = replace(opened.info, points=await opened.points.count(None))
                await opened.points.close()
                if changed:
                    await self._executor.run(self._note_files, opened)
            finally:
                opened.lock.release()
            if await self._executor.run(self._catalogs.is_dropped, *opened.key):
                await self._executor.run(self._catalogs.sweep, opened.info.catalog)

    def _note_files(self, opened: OpenVersion) -> None:
        """Note what the files of a version that was changed have become."""
        if opened.damage or self._catalogs.is_dropped(*opened.key):
            return  # the damage must not become what the files are to be
        try:
            layout = self._catalogs.layout
            write_lock = WriteLock(layout.write_lock(*opened.key))
            settle(layout.shard(*opened.key, opened.shard), write_lock, opened.info.label)
            opened.files.note_all()
            self._catalogs.write(opened.info, opened.shard, Coverage.ALL)
        except (StoreError, OSError) as error:
            get_logger().warning(
                "files that were changed online have no checksums",
                version=opened.info.label,
                error=name_error(error),
                meanwhile="damage to them is found when the version is closed again, or not",
            )

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
