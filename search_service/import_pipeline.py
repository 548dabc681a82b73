"""The work on one stream of items: embedded side by side, written and answered in order.

    messages -> parse -> [queue] -> embed, several at a time -> write -> note -> answers

The queue is bounded in batches and bytes, so a stream is held back by flow control. Items are done when the
store holds them and the import's note, which is kept with the version, says so. What broke in between is sent
and written again, under the same ids; so nothing is lost and nothing is there twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence

from cir.search.v1 import catalog_pb2 as pb
from search_service.catalog_requests import ItemWrite
from search_service.embedder_client import EmbedderClient
from search_service.import_progress import Batch, ImportProgress, Opening, check_same_import, parse_batch
from search_service.items import Point, embedded_points, sent_points, store_points
from search_service.request import ImageReference
from search_service.settings import SearchSettings
from search_service.tasks import Tasks
from service_runtime.receive import aside
from vector_store.base import VersionWriter

# Calls to the embedder at the same time, and batches that wait to be written.
_CALLS_IN_FLIGHT = 4
_BATCHES_IN_FLIGHT = 8
# Bytes of the batches that are not written yet; a larger one goes alone.
_BYTES_IN_FLIGHT = 32 * 1024 * 1024
# Images and their bytes in one call to the embedder.
_CALL_IMAGES = 32
_CALL_BYTES = 16 * 1024 * 1024

Requests = AsyncIterator[pb.ImportItemsRequest]
# A batch, and the task that embeds it; or why no more come, None at the end.
_Prepared = tuple[Batch, "asyncio.Task[list[Point]]"] | Exception | None


class ImportPipeline:
    """One stream's work on a version, from where the import's progress is. `run` may be called once."""

    def __init__(
        self,
        opening: Opening,
        writer: VersionWriter,
        progress: ImportProgress,
        embedder: EmbedderClient,
        settings: SearchSettings,
    ) -> None:
        self._opening = opening
        self._writer = writer
        self._spec = writer.info.spec
        self._progress = progress
        self._embedder = embedder
        self._settings = settings
        # Place of the next item to receive, and the id of the one before.
        self._next = (progress.next_index, progress.last_item_id)
        self._prepared: asyncio.Queue[_Prepared] = asyncio.Queue(_BATCHES_IN_FLIGHT)
        self._room = _Room(_BYTES_IN_FLIGHT)
        self._calls = asyncio.Semaphore(_CALLS_IN_FLIGHT)
        self._limits: tuple[int, int] | None = None
        self._tasks = Tasks()

    async def run(
        self, first: pb.ImportItemsRequest, requests: Requests
    ) -> AsyncGenerator[pb.ImportItemsResponse]:
        """Write batch after batch; yields an answer for each that is done.

        What came before a message that cannot be used is written first.

        Raises:
            ServiceError: A message cannot be used, or the embedder cannot.
            StoreError: The store cannot be used.
        """
        self._tasks.spawn(self._read(first, requests))
        del first
        try:
            while (prepared := await self._prepared.get()) is not None:
                if isinstance(prepared, Exception):
                    raise prepared
                batch, embedding = prepared
                yield await self._write(batch, await embedding)
                await self._room.give_back(batch.size)
        finally:
            await self._tasks.close()

    async def _read(self, first: pb.ImportItemsRequest, requests: Requests) -> None:
        end: Exception | None = None
        try:
            await self._prepare(first)
            del first
            async for message in requests:
                check_same_import(message, self._opening)
                await self._prepare(message)
        except Exception as error:  # told in its turn
            end = error
        await self._prepared.put(end)

    async def _prepare(self, message: pb.ImportItemsRequest) -> None:
        batch = await aside(parse_batch, message, *self._next, self._spec.schema, self._settings)
        if batch is None:
            return
        self._next = (batch.end, batch.last_item_id)
        await self._room.take(batch.size)
        await self._prepared.put((batch, self._tasks.spawn(self._embed(batch))))

    async def _embed(self, batch: Batch) -> list[Point]:
        """Return the items of a batch with their features, in order; those that have none are noted."""
        points = sent_points(batch.writes, self._spec, batch.failed)
        images = [write for write in batch.writes if isinstance(write.source, ImageReference)]
        if images:
            if self._limits is None:
                self._limits = await self._embedder.batch_limits(timeout=self._settings.call_timeout_seconds)
            calls = [
                self._tasks.spawn(self._embed_call(part, batch)) for part in _parts(images, *self._limits)
            ]
            for call in calls:
                points += await call
        return sorted(points, key=lambda point: point.write.index)

    async def _embed_call(self, writes: Sequence[ItemWrite], batch: Batch) -> list[Point]:
        async with self._calls:
            rows, problems = await self._embedder.embed_in_bulk(
                [_content(write) for write in writes],
                fingerprint=self._spec.model_fingerprint,
                dimension=self._spec.dimension,
            )
        return embedded_points(writes, rows, problems, batch.failed)

    async def _write(self, batch: Batch, points: Sequence[Point]) -> pb.ImportItemsResponse:
        latest = {point.write.item_id: point for point in points}  # the last of an id wins
        present = await self._writer.retrieve(list(latest)) if latest else {}
        await store_points(list(latest.values()), self._writer, batch.failed)
        stored = [point.write.item_id for point in points if point.write.index not in batch.failed]
        failed = self._progress.advance(batch, stored, present.keys())
        await self._writer.note(self._opening.note_key, self._progress.note())
        return self._progress.message(failed)


class _Room:
    """Bytes that may be in flight; what is larger than all of them goes alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._changed = asyncio.Condition()

    async def take(self, size: int) -> None:
        """Wait for room, and take it."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._taken or self._taken + size <= self._limit)
            self._taken += size

    async def give_back(self, size: int) -> None:
        """Return room."""
        async with self._changed:
            self._taken -= size
            self._changed.notify_all()


def _parts(writes: Sequence[ItemWrite], max_images: int, max_bytes: int) -> Iterator[list[ItemWrite]]:
    """Cut items given as images into what one call to the embedder takes."""
    part: list[ItemWrite] = []
    size = 0
    for write in writes:
        more = len(_content(write))
        if part and (len(part) >= min(max_images, _CALL_IMAGES) or size + more > min(max_bytes, _CALL_BYTES)):
            yield part
            part, size = [], 0
        part.append(write)
        size += more
    if part:
        yield part


def _content(write: ItemWrite) -> bytes:
    assert isinstance(write.source, ImageReference)  # noqa: S101  # chosen by the callers
    return write.source.content
