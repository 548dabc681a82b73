"""The embedded store: Qdrant Edge shards below one folder."""

from __future__ import annotations

import importlib.metadata
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from weakref import WeakSet

from vector_store.base import CatalogVersion, FileCheck, VectorStore
from vector_store.catalog_version import BackendVersion
from vector_store.edge import EdgeOptions
from vector_store.edge.background_check import check_for
from vector_store.edge.catalogs import EdgeCatalogs, new_version_info
from vector_store.edge.executor import StoreExecutor
from vector_store.edge.files import EdgeLayout, check_disk_space
from vector_store.edge.frozen import FrozenVersions
from vector_store.edge.locks import FileLock, WriteLock, holder_of
from vector_store.edge.noted import VersionFiles
from vector_store.edge.points import EdgePoints
from vector_store.edge.shard import OpenShard
from vector_store.edge.versions import EdgeVersions
from vector_store.edge.writer import EdgeWriter
from vector_store.errors import (
    CatalogNotFoundError,
    InvalidQueryError,
    StoreDamagedError,
    StoreLockedError,
    StoreUnavailableError,
    VersionConflictError,
)
from vector_store.types import CatalogInfo, VersionInfo, VersionSpec, VersionState, check_catalog_name
from vector_store.validation import check_spec
from vector_store.versions import QUANTIZE_ABOVE_BYTES


class EdgeStore(VectorStore):
    """Catalogs below the folder `root`, which is created with the first version.

    Several processes may share the folder, but each version is open in one of them at a time. Dropped
    versions that are still being read are hidden at once and removed when the last reader is done.

    Items that are written online are compared one by one in every search (10,000 of 512 dimensions cost 1 to
    2 ms) until they are more than `options.index_above_items`; these are indexed in another process while
    searches and writes continue (see `background`).
    """

    def __init__(
        self,
        root: Path,
        *,
        quantize_above_bytes: int = QUANTIZE_ABOVE_BYTES,
        options: EdgeOptions = EdgeOptions(),
    ) -> None:
        self._layout = EdgeLayout(root)
        self._catalogs = EdgeCatalogs(self._layout)
        self._executor = StoreExecutor()
        self._versions = EdgeVersions(self._catalogs, self._executor, options, quantize_above_bytes)
        self._frozen = FrozenVersions(self._catalogs, self._executor, options.min_free_bytes)
        self._min_free_bytes = options.min_free_bytes
        self._verify_open_s = options.verify_open_s
        self._quantize_above_bytes = quantize_above_bytes
        self._writers: WeakSet[EdgeWriter] = WeakSet()
        self._closed = False

    async def list_catalogs(self) -> list[CatalogInfo]:
        self._check_open()
        return await self._executor.run(self._list_catalogs)

    async def get_catalog(self, catalog: str) -> CatalogInfo:
        self._check_open()
        return await self._executor.run(self._get_catalog, catalog)

    async def list_versions(self, catalog: str) -> list[VersionInfo]:
        self._check_open()
        return await self._executor.run(self._catalogs.versions, catalog)

    @asynccontextmanager
    async def open_version(self, catalog: str, version: str = "") -> AsyncIterator[CatalogVersion]:
        self._check_open()
        opened = await self._versions.pin(catalog, version)
        try:
            yield BackendVersion(
                opened.info, opened.points, on_change=partial(self._versions.record_points, opened)
            )
        finally:
            self._versions.unpin(opened)

    @asynccontextmanager
    async def open_frozen_version(self, catalog: str, version: str = "") -> AsyncIterator[CatalogVersion]:
        self._check_open()
        if await self._versions.has_open(catalog, version):
            async with self.open_version(catalog, version) as pinned:
                yield pinned
            return
        frozen = await self._frozen.open(catalog, version)
        try:
            yield BackendVersion(frozen.info, frozen.points)
        finally:
            await self._frozen.release(frozen)

    async def create_version(self, catalog: str, spec: VersionSpec) -> EdgeWriter:
        self._check_open()
        try:
            check_catalog_name(catalog)
        except ValueError as error:
            raise InvalidQueryError(str(error), field="catalog") from None
        check_spec(spec)
        return await self._executor.run(self._create, catalog, spec)

    async def resume_version(self, catalog: str, version: str) -> EdgeWriter:
        self._check_open()
        return await self._executor.run(self._resume, catalog, version)

    async def publish(self, catalog: str, version: str, *, keep: int = 3) -> VersionInfo:
        self._check_open()
        if keep < 0:
            raise InvalidQueryError(f"keep {keep}: expected 0 or more", field="keep")
        # A version that was read here is closed first: the process that serves it next must find it free.
        await self._versions.settle()
        info = await self._executor.run(self._catalogs.publish, catalog, version, keep)
        await self._remove_dropped(catalog)
        return info

    async def rollback(self, catalog: str) -> VersionInfo:
        self._check_open()
        return await self._executor.run(self._catalogs.rollback, catalog)

    async def delete_version(self, catalog: str, version: str) -> None:
        self._check_open()
        await self._executor.run(self._catalogs.drop_version, catalog, version)
        await self._remove_dropped(catalog)

    async def delete_catalog(self, catalog: str) -> None:
        self._check_open()
        await self._executor.run(self._catalogs.drop_catalog, catalog)
        await self._remove_dropped(catalog)

    async def check(self) -> Mapping[str, str]:
        self._check_open()
        damage = await self._executor.run(self._find_damage)
        facts = {
            "engine": "qdrant-edge",
            "version": importlib.metadata.version("qdrant-edge-py"),
            "location": str(self._layout.root),
        }
        # The other catalogs are served; a request for the damaged one is refused with the same text.
        return facts | {"damaged": " / ".join(damage)} if damage else facts

    async def check_files(self, catalog: str, version: str = "") -> list[FileCheck]:
        self._check_open()
        return await self._executor.run(self._check_files, catalog, version)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            for writer in list(self._writers):
                await writer.close()
            await self._frozen.close()
            await self._versions.close()
            self._executor.close()

    async def _remove_dropped(self, catalog: str) -> None:
        """Remove the files of what was just dropped, as far as nobody reads it."""
        self._versions.close_dropped(catalog)
        await self._versions.settle()
        await self._executor.run(self._catalogs.sweep, catalog)

    def _list_catalogs(self) -> list[CatalogInfo]:
        found = []
        for name in self._catalogs.names():
            # Another process may have dropped it a moment ago.
            with suppress(CatalogNotFoundError):
                try:
                    found.append(self._get_catalog(name))
                except StoreDamagedError:  # the others are listed
                    found.append(CatalogInfo(name, None))
        return found

    def _get_catalog(self, catalog: str) -> CatalogInfo:
        self._catalogs.versions(catalog)
        published = self._catalogs.history(catalog).published
        return CatalogInfo(catalog, self._catalogs.version(catalog, published) if published else None)

    def _create(self, catalog: str, spec: VersionSpec) -> EdgeWriter:
        version = self._catalogs.allocate(catalog)
        info = new_version_info(catalog, version, spec)
        lock = self._lock(info, "building it")
        try:
            shard = self._layout.shard(catalog, info.version)
            self._check_space(info)
            write_lock = WriteLock(self._layout.write_lock(catalog, info.version))
            opened = OpenShard.create(shard, spec, write_lock, info.label, partial(self._check_space, info))
            points = EdgePoints(opened, self._executor.pool, info.label)
            # Last, because the document is what makes the version exist.
            self._catalogs.write(info)
        except BaseException:
            shutil.rmtree(self._layout.version(catalog, info.version), ignore_errors=True)
            lock.release()
            raise
        return self._writer(info, points, lock)

    def _resume(self, catalog: str, version: str) -> EdgeWriter:
        info = self._catalogs.version(catalog, version)
        if info.state is not VersionState.BUILDING:
            raise VersionConflictError(
                f"{info.label} is {info.state}, and only a version being built can be resumed"
            )
        lock = self._lock(info, "building it")
        try:
            shard = self._layout.shard(catalog, version)
            before_write = partial(self._check_space, info)
            write_lock = WriteLock(self._layout.write_lock(catalog, version))
            opened = OpenShard.load(shard, write_lock, info.label, before_write)
            points = EdgePoints(opened, self._executor.pool, info.label)
        except BaseException:
            lock.release()
            raise
        return self._writer(info, points, lock)

    def _check_space(self, info: VersionInfo) -> None:
        check_disk_space(self._layout.root, self._min_free_bytes, f"write {info.label}")

    def _find_damage(self) -> list[str]:
        """Find published versions whose files are not what was noted, as far as there is time for all."""
        found = []
        deadline = time.monotonic() + self._verify_open_s
        for name in self._catalogs.names():
            try:
                info = self._get_catalog(name).published
                if info is not None:
                    files = VersionFiles(self._catalogs, info.catalog, info.version)
                    check_for(files.noted(), files, deadline - time.monotonic())
            except StoreDamagedError as error:
                found.append(str(error))
            except CatalogNotFoundError:
                continue
        return found

    def _check_files(self, catalog: str, version: str) -> list[FileCheck]:
        checks = []
        try:
            self._catalogs.history(catalog)
        except StoreDamagedError as error:
            checks.append(FileCheck("", str(error)))
        for name in self._catalogs.version_names(catalog):
            if version in ("", name):
                check = VersionFiles(self._catalogs, catalog, name).verify()
                checks += [] if check is None else [check]
        return checks

    def _lock(self, info: VersionInfo, purpose: str) -> FileLock:
        path = self._layout.lock(info.catalog, info.version)
        lock = FileLock(path)
        if not lock.acquire(purpose):
            raise StoreLockedError(f"{info.label} is in use by {holder_of(path)}; wait for it or stop it")
        return lock

    def _writer(self, info: VersionInfo, points: EdgePoints, lock: FileLock) -> EdgeWriter:
        writer = EdgeWriter(info, points, lock, self._catalogs, self._executor, self._quantize_above_bytes)
        self._writers.add(writer)
        return writer

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("the store is closed")
