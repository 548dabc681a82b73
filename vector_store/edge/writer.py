"""Building a version in its own folder, which no other process touches meanwhile."""

from __future__ import annotations

from dataclasses import replace

from vector_store.base import VersionWriter
from vector_store.catalog_version import BackendItems
from vector_store.edge import optimize
from vector_store.edge.catalogs import EdgeCatalogs
from vector_store.edge.config import INDEXING_THRESHOLD_KB
from vector_store.edge.executor import StoreExecutor, optimize_in_subprocess
from vector_store.edge.locks import FileLock
from vector_store.edge.points import EdgePoints
from vector_store.edge.shard import engine_errors
from vector_store.edge.sums import Coverage, make_sums, write_sums
from vector_store.errors import VersionConflictError, VersionNotFoundError
from vector_store.types import VersionInfo, VersionState
from vector_store.versions import wants_int8

# Points after which everything is written to its final files, so that a resumed writer replays little.
_FLUSH_EVERY = 20_000


class EdgeWriter(BackendItems, VersionWriter):
    """Writer of a version: it holds the lock and the shard from creation to `finish`, `abort` or `close`."""

    def __init__(
        self,
        info: VersionInfo,
        points: EdgePoints,
        lock: FileLock,
        catalogs: EdgeCatalogs,
        executor: StoreExecutor,
        quantize_above_bytes: int,
    ) -> None:
        super().__init__(info, points)
        self._name = info.label
        self._points = points
        self._lock = lock
        self._catalogs = catalogs
        self._executor = executor
        self._quantize_above_bytes = quantize_above_bytes
        self._unflushed = 0
        self._open = True

    async def _changed(self, items: int) -> None:
        self._unflushed += items
        if self._unflushed >= _FLUSH_EVERY:
            self._unflushed = 0
            await self._points.flush()

    async def notes(self) -> dict[str, str]:
        self._check_open()
        return await self._executor.run(self._catalogs.notes, self.info.catalog, self.info.version)

    async def note(self, key: str, text: str) -> None:
        self._check_open()
        notes = await self.notes() | {key: text}
        await self._executor.run(self._catalogs.write_notes, self.info.catalog, self.info.version, notes)

    async def finish(self) -> VersionInfo:
        self._check_open()
        self.info = replace(self.info, image_length=await self._image_length())
        await self._stop()
        try:
            await self._optimize()
            return await self._executor.run(self._complete)
        finally:
            self._lock.release()

    async def abort(self) -> None:
        await self._stop()
        await self._executor.run(self._catalogs.discard, self.info.catalog, self.info.version)
        self._lock.release()
        await self._executor.run(self._catalogs.sweep, self.info.catalog)

    async def close(self) -> None:
        if not self._open:
            return
        await self._stop()
        try:
            await self._executor.run(self._save)
        finally:
            self._lock.release()

    async def _stop(self) -> None:
        """Close the shard, with everything in it durable; the version's lock stays."""
        self._check_open()
        self._open = False
        try:
            self.info = replace(self.info, points=await self._points.count(None))
            await self._points.flush()
            await self._points.close()
        except BaseException:
            await self._points.close()
            self._lock.release()
            raise

    async def _optimize(self) -> None:
        spec = self.info.spec
        shard = self._catalogs.layout.shard(self.info.catalog, self.info.version)
        int8 = spec.dimension if wants_int8(spec, self.info.points, self._quantize_above_bytes) else None
        if 4 * spec.dimension * self.info.points <= 1024 * INDEXING_THRESHOLD_KB:
            # No graph is built for so few vectors, so a process of its own would only cost its start.
            await self._executor.run(self._optimize_here, str(shard), int8)
            return
        await optimize_in_subprocess(
            shard,
            int8_dimension=int8,
            on_disk=spec.index.vectors_on_disk,
            nice=0,
            act=f"building the index of {self._name}",
            advice="the items are safe, resume the version to try again",
        )

    def _optimize_here(self, shard: str, int8: int | None) -> None:
        with engine_errors(f"build the index of {self._name}"):
            optimize.optimize(shard, int8_dimension=int8, on_disk=self.info.spec.index.vectors_on_disk)

    def _complete(self) -> VersionInfo:
        self._check_not_dropped()
        self.info = replace(self.info, state=VersionState.READY)
        layout = self._catalogs.layout
        key = (self.info.catalog, self.info.version)
        write_sums(layout.sums(*key), make_sums(layout.shard(*key)))
        self._catalogs.write(self.info, coverage=Coverage.ALL)
        layout.notes(*key).unlink(missing_ok=True)
        return self.info

    def _save(self) -> None:
        self._check_not_dropped()
        self._catalogs.write(self.info)

    def _check_not_dropped(self) -> None:
        if self._catalogs.is_dropped(self.info.catalog, self.info.version):
            raise VersionNotFoundError(f"{self._name} was dropped while it was being built")

    def _check_open(self) -> None:
        if not self._open:
            raise VersionConflictError(f"the writer of {self._name} is closed; resume the version to go on")
