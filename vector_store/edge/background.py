"""Background indexing of items that were written online, while queries continue.

Many items without an index slow every query. Indexing holds the interpreter lock, so a copy of the shard is
indexed in another process; later changes are then copied to it, and the version's document is
switched to its folder. Until that one replacement the old folder is the version, from it on the new one: a
process killed anywhere leaves one whole version and perhaps a folder that the next owner removes.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import qdrant_edge as edge

from service_runtime.error_report import name_error
from service_runtime.logging import get_logger
from vector_store.edge import EdgeOptions
from vector_store.edge.catalogs import EdgeCatalogs
from vector_store.edge.config import INDEXING_THRESHOLD_KB
from vector_store.edge.executor import StoreExecutor, optimize_in_subprocess
from vector_store.edge.files import check_disk_space, sync_files, used_bytes
from vector_store.edge.noted import VersionFiles
from vector_store.edge.points import EdgePoints
from vector_store.edge.shard import engine_errors
from vector_store.edge.sums import Coverage
from vector_store.errors import StoreError
from vector_store.types import VersionInfo
from vector_store.versions import wants_int8

T = TypeVar("T")

_SHARD_FOLDER = re.compile(r"shard(-[0-9a-f]{8})?")
_SHARD_SUMS = re.compile(r"sums-(shard(-[0-9a-f]{8})?)\.json")
_NICE = 10


class Serving(Protocol):
    """An open version that is being indexed (see `versions.OpenVersion`)."""

    info: VersionInfo
    points: EdgePoints
    shard: str
    coverage: Coverage


class BackgroundIndex:
    """Indexing of one open version that has too many items without an index; one attempt at a time.

    `exclusive` is held while the version's document is written.
    """

    def __init__(
        self,
        opened: Serving,
        catalogs: EdgeCatalogs,
        executor: StoreExecutor,
        exclusive: asyncio.Lock,
        options: EdgeOptions,
        quantize_above_bytes: int,
    ) -> None:
        self._opened = opened
        self._key = (opened.info.catalog, opened.info.version)
        self._name = opened.info.label
        self._catalogs = catalogs
        self._layout = catalogs.layout
        self._files = VersionFiles(catalogs, *self._key)
        self._executor = executor
        self._exclusive = exclusive
        self._options = options
        self._quantize_above_bytes = quantize_above_bytes
        # Items that the last attempt left without an index, because the engine takes them for too few.
        self._left = 0
        self._task: asyncio.Task[None] | None = None
        self._waiting: asyncio.Task[Any] | None = None
        self._stopped = False

    async def start_if_needed(self) -> None:
        """Begin indexing when it is time, and return at once."""
        above = self._options.index_above_items
        if self._stopped or self._task is not None or above == 0:
            return
        unindexed = await self._opened.points.unindexed()
        self._left = min(self._left, unindexed)
        kilobytes = 4 * self._opened.info.spec.dimension * unindexed / 1024
        if unindexed - self._left > above and kilobytes > INDEXING_THRESHOLD_KB and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """Give up what is under way; returns when nothing of it is left."""
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        pause = self._options.retry_s
        try:
            while True:
                try:
                    await self._index()
                    self._left = await self._opened.points.unindexed()
                    return
                except (StoreError, OSError) as error:
                    get_logger().warning(
                        "items written online not indexed",
                        version=self._name,
                        error=name_error(error),
                        meanwhile="queries compare them one by one",
                        retry_seconds=pause,
                    )
                await self._abortable(asyncio.sleep(pause))
                pause = min(2 * pause, self._options.max_retry_s)
        finally:
            self._task = None

    async def _index(self) -> None:
        opened = self._opened
        spec = opened.info.spec
        name = f"shard-{secrets.token_hex(4)}"
        path = self._layout.shard(*self._key, name)
        target: edge.EdgeShard | None = None
        try:
            await self._executor.run(self._check_space, self._layout.shard(*self._key, opened.shard))
            await opened.points.copy_to(path)
            int8 = wants_int8(spec, await opened.points.count(None), self._quantize_above_bytes)
            await self._abortable(
                optimize_in_subprocess(
                    path,
                    int8_dimension=spec.dimension if int8 else None,
                    on_disk=spec.index.vectors_on_disk,
                    nice=_NICE,
                    act=f"indexing a copy of {self._name}",
                    advice="searches and writes go on without",
                )
            )
            target = await self._executor.run(self._load, path)
            await opened.points.catch_up(target)
            await self._executor.run(sync_files, path)
            await self._executor.run(self._files.note_copy, name)
            await self._abortable(self._exclusive.acquire())
            try:
                await opened.points.switch(target, path, partial(self._commit, name))
            finally:
                self._exclusive.release()
            get_logger().info("items written online indexed", version=self._name)
        finally:
            await self._clean_up(name, target)

    async def _clean_up(self, name: str, target: edge.EdgeShard | None) -> None:
        """Leave nothing but the folder that counts."""
        if self._opened.shard != name:
            self._opened.points.forget_changes()
            if target is not None:
                await self._executor.run(target.close)
        await self._executor.run(remove_other_shards, self._layout.version(*self._key), self._opened.shard)

    def _load(self, path: Path) -> edge.EdgeShard:
        with engine_errors(f"open the indexed copy of {self._name}"):
            return edge.EdgeShard.load(str(path))

    def _commit(self, name: str) -> None:
        self._files.forget_older()
        try:
            self._catalogs.write(self._opened.info, name, Coverage.UNCHANGING)
        except OSError:
            # Replaced, but perhaps not durably: what is read from now on is the new document.
            if self._catalogs.shard_name(*self._key) != name:
                raise
        self._opened.shard, self._opened.coverage = name, Coverage.UNCHANGING

    def _check_space(self, shard: Path) -> None:
        # The copy and the index that is built next to it.
        needed = self._options.min_free_bytes + 2 * used_bytes(shard)
        check_disk_space(self._layout.root, needed, f"index what was written online to {self._name}")

    async def _abortable(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work`, which `stop` may cancel; everything else it waits for."""
        if self._stopped:
            work.close()
            raise asyncio.CancelledError
        waiting: asyncio.Task[T] = asyncio.get_running_loop().create_task(work)
        self._waiting = waiting
        try:
            return await waiting
        finally:
            self._waiting = None


def remove_other_shards(version: Path, kept: str) -> None:
    """Remove shards that are not the version's, with their sums, as the holder of its lock. Blocks."""
    for path in version.iterdir():
        if _SHARD_FOLDER.fullmatch(path.name) and path.name != kept:
            shutil.rmtree(path, ignore_errors=True)
        elif (sums := _SHARD_SUMS.fullmatch(path.name)) and sums[1] != kept:
            path.unlink(missing_ok=True)
