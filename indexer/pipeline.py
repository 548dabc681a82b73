"""From a source to a version being built: read, embed and write at the same time, in bounded memory.

    source -> admit -> read -> batches -> [queue] -> embed, several at once -> [queue] -> write

Both queues hold as many batches as calls are in flight, so memory is bounded by the options however large
the source is. Batches may overtake each other; items never leave their own object.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from indexer.admission import admit
from indexer.batches import batches
from indexer.embed import Embedder
from indexer.items import EmbeddedItem, LoadedItem, Reject, SourceItem
from indexer.options import IndexingOptions
from indexer.progress import Progress
from indexer.reader import read_images
from indexer.rejects import RejectsFile
from indexer.report import Tally
from indexer.source import Source
from indexer.verify import Sample
from indexer.write import BatchWriter
from vector_store.catalogs import FieldType

_Loaded = asyncio.Queue[list[LoadedItem] | None]
_Embedded = asyncio.Queue[list[EmbeddedItem] | None]


class Pipeline:
    """One run's stages. `run` returns when everything is written, or raises the first stage's error."""

    def __init__(
        self,
        *,
        embedder: Embedder,
        writer: BatchWriter,
        rejects: RejectsFile,
        sample: Sample,
        tally: Tally,
        options: IndexingOptions,
        progress: Progress,
    ) -> None:
        self._embedder = embedder
        self._writer = writer
        self._rejects = rejects
        self._sample = sample
        self._tally = tally
        self._options = options
        self._progress = progress
        self._loaded: _Loaded = asyncio.Queue(options.calls_in_flight)
        self._embedded: _Embedded = asyncio.Queue(options.calls_in_flight)

    async def run(self, source: Source, schema: Mapping[str, FieldType]) -> None:
        """Bring every item of `source` into the version or into the rejects file."""
        try:
            async with asyncio.TaskGroup() as stages:
                stages.create_task(self._read(source, schema))
                stages.create_task(self._embed_all())
                stages.create_task(self._write())
        except* Exception as group:
            # The stages fail one because of the other; the first failure is the cause.
            raise _first(group) from None

    async def _read(self, source: Source, schema: Mapping[str, FieldType]) -> None:
        loop = asyncio.get_running_loop()
        found = read_images(
            admit(self._counted(source.items()), schema),
            max_bytes=self._embedder.image_bytes,
            threads=self._options.read_threads,
        )
        grouped = batches(found, max_items=self._embedder.batch_items, max_bytes=self._embedder.batch_bytes)
        with_end: Iterator[list[LoadedItem] | Reject | None] = iter(grouped)
        # One thread pulls the whole chain of generators, so none of them needs a lock.
        puller = ThreadPoolExecutor(1, thread_name_prefix="source")
        try:
            while (batch := await loop.run_in_executor(puller, next, with_end, None)) is not None:
                if isinstance(batch, Reject):
                    self._reject(batch)
                else:
                    await self._loaded.put(batch)
        finally:
            puller.shutdown(wait=False, cancel_futures=True)
        for _ in range(self._options.calls_in_flight):
            await self._loaded.put(None)

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
            embedded: list[EmbeddedItem] = []
            for result in await self._embedder.embed(batch):
                if isinstance(result, Reject):
                    self._reject(result)
                else:
                    embedded.append(result)
            if embedded:
                await self._embedded.put(embedded)

    async def _write(self) -> None:
        while (items := await self._embedded.get()) is not None:
            self._sample.offer(items)
            await self._writer.write(items)
            self._progress.advance(self._tally)
        await self._writer.flush()
        self._progress.advance(self._tally)

    def _reject(self, reject: Reject) -> None:
        self._rejects.write(reject)
        self._progress.advance(self._tally)


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
