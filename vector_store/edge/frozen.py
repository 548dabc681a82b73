"""Reading a version that another process may have open: from a private copy of its files.

The copy holds every change that was acknowledged before it was made and none that came later, each wholly or
not at all. It takes little time and room, because large files that never change are shared (`copy_shard`).
"""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from vector_store.edge.catalogs import EdgeCatalogs
from vector_store.edge.executor import StoreExecutor
from vector_store.edge.files import check_disk_space, copy_shard, used_bytes
from vector_store.edge.locks import FileLock, WriteLock
from vector_store.edge.noted import NotedFiles, VersionFiles
from vector_store.edge.points import EdgePoints
from vector_store.edge.shard import OpenShard
from vector_store.errors import CatalogNotFoundError, VersionConflictError, VersionNotFoundError
from vector_store.types import VersionInfo, VersionState, version_label


@dataclass(slots=True)
class FrozenVersion:
    """An open copy. It is removed when it is closed, or after a crash when the next copy is made."""

    info: VersionInfo
    points: EdgePoints
    folder: Path
    lock: FileLock


class FrozenVersions:
    """Copies below the store's folder `copies`: made, opened and removed here."""

    def __init__(self, catalogs: EdgeCatalogs, executor: StoreExecutor, min_free_bytes: int) -> None:
        self._catalogs = catalogs
        self._folder = catalogs.layout.copies
        self._executor = executor
        self._min_free_bytes = min_free_bytes
        self._open: list[FrozenVersion] = []

    async def open(self, catalog: str, version: str) -> FrozenVersion:
        """Copy a version ('' = the published one) as it is now, and open the copy.

        Raises:
            CatalogNotFoundError: there is no such catalog, or nothing of it is published.
            VersionNotFoundError: the catalog has no such version.
            VersionConflictError: the version is being built.
        """
        frozen = await self._executor.run(self._make, catalog, version)
        self._open.append(frozen)
        frozen.info = replace(frozen.info, points=await frozen.points.count(None))
        return frozen

    async def release(self, frozen: FrozenVersion) -> None:
        """Close and remove a copy; no error when that was done before."""
        if frozen in self._open:
            self._open.remove(frozen)
            try:
                await frozen.points.close()
            finally:
                await self._executor.run(self._remove, frozen.folder, frozen.lock)

    async def close(self) -> None:
        """Release every copy."""
        for frozen in list(self._open):
            await self.release(frozen)

    def _make(self, catalog: str, version: str) -> FrozenVersion:
        self._remove_left()
        version = version or self._catalogs.history(catalog).published
        if not version:
            self._catalogs.versions(catalog)
            raise CatalogNotFoundError(f"catalog {catalog!r} has no published version yet; publish one first")
        info = self._catalogs.version(catalog, version)
        name = version_label(catalog, version)
        if info.state is VersionState.BUILDING:
            raise VersionConflictError(f"{name} is still being built")
        folder = self._folder / secrets.token_hex(8)
        self._folder.mkdir(exist_ok=True)
        lock = FileLock(_lock_path(folder))
        # Before the folder is there: one without a held lock is a left-over.
        lock.acquire("reading a copy")
        try:
            folder.mkdir()
            shard = folder / "shard"
            try:
                files = VersionFiles(self._catalogs, catalog, version)
                noted = self._copy(info, shard, name, files)
                # All of it, because copies and snapshots are made of it, and the next version.
                files.check(noted, shard)
            except FileNotFoundError:
                if self._catalogs.is_dropped(catalog, version):
                    raise VersionNotFoundError(f"{name} was dropped while it was copied") from None
                raise

            def before_write() -> None:
                raise VersionConflictError(f"{name} is read from a copy, which is not changed")

            write_lock = WriteLock(folder / "write.lock")
            points = EdgePoints(
                OpenShard.load(shard, write_lock, f"a copy of {name}", before_write),
                self._executor.pool,
                name,
            )
        except BaseException:
            self._remove(folder, lock)
            raise
        return FrozenVersion(info, points, folder, lock)

    def _copy(self, info: VersionInfo, target: Path, name: str, files: VersionFiles) -> NotedFiles:
        layout = self._catalogs.layout
        with WriteLock(layout.write_lock(info.catalog, info.version)).held(f"copy {name}"):
            # Under the write_lock, because the owner changes folders under it.
            noted = files.noted()
            needed = self._min_free_bytes + used_bytes(noted.shard)
            check_disk_space(layout.root, needed, f"copy {name}")
            copy_shard(noted.shard, target)
            return noted

    def _remove_left(self) -> None:
        """Remove the copies of processes that died."""
        if self._folder.is_dir():
            for folder in self._folder.iterdir():
                if folder.is_dir():
                    lock = FileLock(_lock_path(folder))
                    if lock.acquire("removing it"):
                        self._remove(folder, lock)

    def _remove(self, folder: Path, lock: FileLock) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        _lock_path(folder).unlink(missing_ok=True)
        lock.release()


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
