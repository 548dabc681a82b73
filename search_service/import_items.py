"""Streams of items into versions that are being built: whose turn it is, and how each of them ends.

An import is worked on by a task of its own, which holds the version's only writer. However it ends (its
stream is over or broken, nothing comes, nobody reads the answers, another stream of the same import, an
abort), the writer is closed with it and the next one may go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field

from cir.common.v1 import errors_pb2 as errors
from cir.search.v1 import catalog_pb2 as pb
from search_service.embedder_client import EmbedderClient
from search_service.import_pipeline import ImportPipeline, Requests
from search_service.import_progress import (
    MAX_TOKENS,
    ImportProgress,
    Opening,
    imports_of,
    parse_opening,
)
from search_service.settings import SearchSettings
from search_service.store import resume_version, write_conflict
from service_runtime.errors import ServiceError
from vector_store.base import VectorStore, VersionWriter

# Longest wait for the news that a stream has broken.
_BREAK_SECONDS = 0.5
# Answers that wait to be read.
_ANSWERS = 16

_Answers = asyncio.Queue[pb.ImportItemsResponse]


@dataclass(eq=False, slots=True)
class _Running:
    """An import that is being worked on, and the refusal that it is ended with from elsewhere.

    It is `closing` from the moment that nobody hears its answers any more.
    """

    token: str
    work: asyncio.Task[None] | None = None
    refusal: ServiceError | None = None
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def end(self, refusal: ServiceError) -> None:
        """End the import; its version is free when this returns."""
        self.refusal = self.refusal or refusal
        if self.work is not None:
            self.work.cancel()
        await self.ended.wait()


class Imports:
    """The imports that this service works on, at most one for a version."""

    def __init__(self, store: VectorStore, embedder: EmbedderClient, settings: SearchSettings) -> None:
        self._store = store
        self._embedder = embedder
        self._settings = settings
        self._running: dict[tuple[str, str], _Running] = {}
        self._streams = 0
        self._works: set[asyncio.Task[None]] = set()

    async def stream(self, requests: Requests) -> AsyncGenerator[pb.ImportItemsResponse]:
        """Work on an import until its stream ends; yields the answers.

        Raises:
            ServiceError: The stream cannot be used, or is too slow; what was answered for stays done.
            StoreError: The version does not exist, is finished or being written; the store cannot be used.
        """
        if self._streams >= self._settings.max_imports:
            raise ServiceError(
                errors.OVERLOADED,
                f"{self._streams} imports are under way, the limit is {self._settings.max_imports}; try "
                "again when one has ended",
                retry_after=5.0,
            )
        self._streams += 1
        answers: _Answers = asyncio.Queue(_ANSWERS)
        running = _Running("")
        work = running.work = asyncio.create_task(self._work(requests, answers, running))
        self._works.add(work)
        work.add_done_callback(self._works.discard)
        try:
            while (answer := await _next_answer(answers, work)) is not None:
                yield answer
            try:
                await work
            except asyncio.CancelledError:
                if running.refusal is not None:
                    raise running.refusal from None
                raise
        finally:
            self._streams -= 1
            running.closing.set()
            work.cancel()
            # The writer is closed by then, unless this is cancelled once more: then soon after.
            await asyncio.wait([work])

    async def end(self, catalog: str, version: str) -> None:
        """End the import into a version, if there is one."""
        if (running := self._running.get((catalog, version))) is not None:
            await running.end(_ended("its version is aborted"))

    async def closed(self, catalog: str, version: str) -> None:
        """Return when no import writes a version; one whose stream is over or broken is waited for.

        Raises:
            ServiceError: WRITE_CONFLICT while the stream of one goes on.
        """
        while (running := self._running.get((catalog, version))) is not None:
            with suppress(TimeoutError):  # that a stream has broken may be heard of a moment later
                async with asyncio.timeout(_BREAK_SECONDS):
                    await running.closing.wait()
            if not running.closing.is_set():
                raise write_conflict(
                    f"version {version} of catalog {catalog!r} is being written by an import whose stream "
                    "goes on; end that, or wait for it, or abort the version"
                )
            await running.ended.wait()

    async def drain(self) -> None:
        """End all imports: their clients go on with another replica, or with this one when it is back."""
        refusal = ServiceError(errors.NOT_READY, "the service is stopping; resume the import with its token")
        await asyncio.gather(*(running.end(refusal) for running in list(self._running.values())))

    async def close(self) -> None:
        """End what is left of them, before the store is closed."""
        await self.drain()
        if self._works:
            await asyncio.wait(self._works)

    async def _work(self, requests: Requests, answers: _Answers, running: _Running) -> None:
        try:
            first = await anext(requests)
        except StopAsyncIteration:
            raise ServiceError(
                errors.FIELD_REQUIRED, "the stream has no message; name a version and a token", field="parent"
            ) from None
        opening = parse_opening(first)
        running.token = opening.token
        async with self._place(opening, running), self._writer(opening) as writer:
            progress = await _read_progress(writer, opening)
            known = [error for error in progress.kept if error.index >= opening.known_index]
            await self._answer(answers, progress.message(known))
            pipeline = ImportPipeline(opening, writer, progress, self._embedder, self._settings)
            async with aclosing(pipeline.run(first, requests)) as written:
                async for answer in written:
                    await self._answer(answers, answer)

    @asynccontextmanager
    async def _place(self, opening: Opening, running: _Running) -> AsyncIterator[None]:
        """Be the one import of a version; an earlier stream of the same import is ended.

        Raises:
            ServiceError: WRITE_CONFLICT while another import has the version.
        """
        key = (opening.catalog, opening.version)
        while (other := self._running.get(key)) is not None:
            if other.closing.is_set():
                await other.ended.wait()
            elif other.token != opening.token:
                raise write_conflict(
                    f"version {opening.version} of catalog {opening.catalog!r} is being written by another "
                    "import; wait for it, or abort the version"
                )
            else:
                await other.end(_ended("another stream goes on with its token"))
        self._running[key] = running
        try:
            yield
        finally:
            del self._running[key]
            running.ended.set()

    @asynccontextmanager
    async def _writer(self, opening: Opening) -> AsyncIterator[VersionWriter]:
        resuming = asyncio.ensure_future(resume_version(self._store, opening.catalog, opening.version))
        try:
            writer = await asyncio.shield(resuming)
        except asyncio.CancelledError:
            # A writer that comes too late would keep the version.
            with suppress(Exception):
                await (await resuming).close()
            raise
        try:
            yield writer
        finally:
            closing = asyncio.ensure_future(writer.close())
            while not closing.done():
                # Cancelled or not: whoever comes next must find the version free.
                with suppress(asyncio.CancelledError):
                    await asyncio.shield(closing)
            closing.result()

    async def _answer(self, answers: _Answers, answer: pb.ImportItemsResponse) -> None:
        seconds = self._settings.stream_idle_seconds
        try:
            async with asyncio.timeout(seconds):
                await answers.put(answer)
        except TimeoutError:
            raise ServiceError(
                errors.DEADLINE, f"no answer was read for {seconds:g} s; read them while you send"
            ) from None


async def _next_answer(answers: _Answers, work: asyncio.Task[None]) -> pb.ImportItemsResponse | None:
    """Return the next answer, None when there is none any more."""
    if answers.empty() and not work.done():
        getting = asyncio.ensure_future(answers.get())
        try:
            await asyncio.wait([getting, work], return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                return getting.result()
        finally:
            getting.cancel()
    return None if answers.empty() else answers.get_nowait()


async def _read_progress(writer: VersionWriter, opening: Opening) -> ImportProgress:
    imports = imports_of(await writer.notes())
    if opening.note_key not in imports and len(imports) >= MAX_TOKENS:
        raise ServiceError(
            errors.OUT_OF_RANGE,
            f"the version remembers {len(imports)} imports already; go on with one of their tokens, or "
            "finish it",
            field="token",
        )
    progress = imports.get(opening.note_key, ImportProgress())
    noted = sum(each.written for each in imports.values())
    progress.unnoted = max(0, await writer.count() - noted)
    return progress


def _ended(why: str) -> ServiceError:
    return ServiceError(errors.VERSION_STATE, f"the import was ended: {why}")
