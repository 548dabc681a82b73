"""From a source to a version being built: read, embed and write at the same time, in bounded memory.

    source -> admit -> recognise -> read -> recognise -> batches -> [queue] -> embed -> [queue] -> write
                                                            \\-> known: take features over -/

Queues are bounded, so memory is bounded by the options however large the source is. Batches may overtake
each other; items never leave their own object. Not more than `calls_in_flight` batches are between the
embedder and the ledger at any time: that much, and no more, is encoded again after a crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from cir.fields import FieldType
from indexer.changes import ChangeDetector
from indexer.embed import ImageEmbedder
from indexer.items import NO_STAMP, ContentStamp, EmbeddedItem, KnownItem, LoadedItem, WrittenItem
from indexer.options import IndexingOptions
from indexer.progress import Progress
from indexer.read import batches, read_images
from indexer.rejects import Reject, RejectsFile
from indexer.report import Tally
from indexer.reuse import FeatureReuse
from indexer.sources.base import Source, SourceItem
from indexer.validate import validate_items
from indexer.verify import Sample
from indexer.write import ItemWriter, LedgerPage

_Found = list[LoadedItem] | list[KnownItem] | WrittenItem | Reject
_Loaded = asyncio.Queue[list[LoadedItem] | None]
# A batch, and whether it came from the embedder and so holds a place in the window.
_Embedded = asyncio.Queue[tuple[list[EmbeddedItem], bool] | None]


class Pipeline:
    """One run's stages. `run` returns when everything is written, or raises the first stage's error."""

    def __init__(
        self,
        *,
        embedder: ImageEmbedder,
        detector: ChangeDetector,
        known: FeatureReuse,
        page: LedgerPage,
        writer: ItemWriter,
        rejects: RejectsFile,
        sample: Sample,
        tally: Tally,
        options: IndexingOptions,
        progress: Progress,
    ) -> None:
        self._embedder = embedder
        self._detector = detector
        self._known = known
        self._page = page
        self._writer = writer
        self._rejects = rejects
        self._sample = sample
        self._tally = tally
        self._options = options
        self._progress = progress
        self._loaded: _Loaded = asyncio.Queue(options.calls_in_flight)
        self._embedded: _Embedded = asyncio.Queue(options.calls_in_flight)
        self._window = asyncio.Semaphore(options.calls_in_flight)

    async def run(self, source: Source, schema: Mapping[str, FieldType]) -> None:
        """Bring every item of `source` into the version or into the rejects file."""
        try:
            async with asyncio.TaskGroup() as stages:
                stages.create_task(self._read(source, schema))
                stages.create_task(self._embed_all())
                stages.create_task(self._write())
        except ExceptionGroup as group:
            # The stages fail one because of the other; the first failure is the cause.
            raise _first(group) from None

    async def _read(self, source: Source, schema: Mapping[str, FieldType]) -> None:
        loop = asyncio.get_running_loop()
        read: Iterator[LoadedItem | KnownItem | WrittenItem | Reject] = read_images(
            self._detector.before_reading(validate_items(self._counted(source.items()), schema)),
            max_bytes=self._embedder.image_bytes,
            threads=self._options.read_threads,
        )
        found: Iterator[LoadedItem | KnownItem | WrittenItem | Reject] = self._detector.after_reading(read)
        grouped: Iterator[_Found] = batches(
            found, max_items=self._embedder.batch_items, max_bytes=self._embedder.batch_bytes
        )
        with_end: Iterator[_Found | None] = iter(grouped)
        # One thread pulls the whole chain of generators, so none of them needs a lock.
        puller = ThreadPoolExecutor(1, thread_name_prefix="source")
        try:
            while (batch := await loop.run_in_executor(puller, next, with_end, None)) is not None:
                await self._take(batch)
        finally:
            puller.shutdown(wait=False, cancel_futures=True)
        for _ in range(self._options.calls_in_flight):
            await self._loaded.put(None)

    async def _take(self, batch: _Found) -> None:
        if isinstance(batch, Reject):
            await self._reject(batch)
        elif isinstance(batch, WrittenItem):
            self._tally.count([batch.change])
            self._progress.advance(self._tally)
        elif isinstance(batch[0], KnownItem):
            await self._take_over([item for item in batch if isinstance(item, KnownItem)])
        else:
            await self._loaded.put([item for item in batch if isinstance(item, LoadedItem)])

    async def _take_over(self, items: Sequence[KnownItem]) -> None:
        taken, left = await self._known.take(items, self._embedder.image_bytes)
        if taken:
            await self._embedded.put((taken, False))
        bounds = {"max_items": self._embedder.batch_items, "max_bytes": self._embedder.batch_bytes}
        for batch in batches(left, **bounds):
            await self._take(batch)

    def _counted(self, found: Iterable[SourceItem | Reject]) -> Iterator[SourceItem | Reject]:
        for item in found:
            self._tally.found += 1
            yield item

    async def _embed_all(self) -> None:
        async with asyncio.TaskGroup() as calls:
            for _ in range(self._options.calls_in_flight):
                calls.create_task(self._embed())
        await self._embedded.put(None)

    async def _embed(self) -> None:
        while (batch := await self._loaded.get()) is not None:
            await self._window.acquire()
            embedded: list[EmbeddedItem] = []
            for loaded, result in zip(batch, await self._embedder.embed(batch), strict=True):
                if isinstance(result, Reject):
                    await self._reject(result, loaded.item, loaded.stamp)
                else:
                    embedded.append(result)
            if embedded:
                await self._embedded.put((embedded, True))
            else:
                self._window.release()

    async def _write(self) -> None:
        while (entry := await self._embedded.get()) is not None:
            items, from_embedder = entry
            self._sample.offer(items)
            await self._writer.write(items)
            if from_embedder:
                self._window.release()
            self._progress.advance(self._tally)

    async def _reject(
        self, reject: Reject, item: SourceItem | None = None, stamp: ContentStamp = NO_STAMP
    ) -> None:
        self._rejects.write(reject)
        await asyncio.to_thread(self._page.reject, reject, item, stamp)
        self._progress.advance(self._tally)


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
