"""The RPCs of cir.embedder.v1.EmbedderService, thin over the engine.

Several batches of a stream are embedded at a time: reading ahead is bounded, answers go out when ready."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf import duration_pb2

from cir import vectors
from cir.common.v1 import errors_pb2 as pb
from cir.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from embedder_service.batching.jobs import Caller, Priority
from embedder_service.engine import EmbedResult, Engine
from embedder_service.requests import EmbedRequest, RequestParser
from service_runtime.errors import ServiceError
from service_runtime.interceptor import remaining_seconds

Context = grpc.aio.ServicerContext[Any, Any]
Response = TypeVar("Response", embedder_pb2.EmbedImagesResponse, embedder_pb2.EmbedTextsResponse)


class EmbedderServicer(embedder_pb2_grpc.EmbedderServiceServicer):
    """Serves one engine, from `serve` on; no call may come before it."""

    _engine: Engine
    _checks: RequestParser
    _info: embedder_pb2.GetEmbedderInfoResponse

    def __init__(self, *, call_timeout: float) -> None:
        self._call_timeout = call_timeout

    def serve(
        self, engine: Engine, checks: RequestParser, info: embedder_pb2.GetEmbedderInfoResponse
    ) -> None:
        """Answer from `engine` from now on."""
        self._engine, self._checks, self._info = engine, checks, info

    async def GetEmbedderInfo(
        self, request: embedder_pb2.GetEmbedderInfoRequest, context: Context
    ) -> embedder_pb2.GetEmbedderInfoResponse:
        """Tell the model and the limits."""
        return self._info

    async def EmbedImages(
        self, request: embedder_pb2.EmbedImagesRequest, context: Context
    ) -> embedder_pb2.EmbedImagesResponse:
        """Embed pictures."""
        return await self._embed_images(request, context, Priority.INTERACTIVE)

    async def EmbedTexts(
        self, request: embedder_pb2.EmbedTextsRequest, context: Context
    ) -> embedder_pb2.EmbedTextsResponse:
        """Embed texts."""
        return await self._embed_texts(request, context, Priority.INTERACTIVE)

    async def EmbedStream(
        self, request_iterator: AsyncIterator[embedder_pb2.EmbedStreamRequest], context: Context
    ) -> AsyncIterator[embedder_pb2.EmbedStreamResponse]:
        """Embed batch after batch, a few at a time."""

        caller = object()  # all batches of the stream take one caller's turns

        async def answer(request: embedder_pb2.EmbedStreamRequest) -> embedder_pb2.EmbedStreamResponse:
            return await self._embed_stream_batch(request, context, caller)

        limit = self._info.limits.max_stream_batches
        async with aclosing(map_concurrently(request_iterator, answer, limit=limit)) as responses:
            async for response in responses:
                yield response

    async def _embed_stream_batch(
        self, request: embedder_pb2.EmbedStreamRequest, context: Context, caller: Caller
    ) -> embedder_pb2.EmbedStreamResponse:
        response = embedder_pb2.EmbedStreamResponse(batch_id=request.batch_id)
        try:
            match request.WhichOneof("batch"):
                case "images":
                    response.images.CopyFrom(
                        await self._with_room(self._embed_images, request.images, context, caller)
                    )
                case "texts":
                    response.texts.CopyFrom(
                        await self._with_room(self._embed_texts, request.texts, context, caller)
                    )
                case _:
                    raise ServiceError(pb.FIELD_REQUIRED, "the batch is empty; set images or texts")
        except ServiceError as error:
            response.error.CopyFrom(error.item_error(0))
        return response

    async def _with_room(self, embed: Any, request: EmbedRequest, context: Context, caller: Caller) -> Any:
        """Embed once there is room: a stream is held back by flow control, not refused."""
        while True:
            try:
                return await embed(request, context, Priority.BULK, caller)
            except ServiceError as error:
                if error.reason != pb.OVERLOADED:
                    raise
            await self._engine.budget.wait_for_room()

    async def _embed_images(
        self,
        request: embedder_pb2.EmbedImagesRequest,
        context: Context,
        default: Priority,
        caller: Caller = None,
    ) -> embedder_pb2.EmbedImagesResponse:
        started = time.monotonic()
        priority = self._checks.priority(request, default)
        images = self._checks.images(request.images)
        deadline = started + remaining_seconds(context, self._call_timeout)
        embedded = await self._engine.embed_images(
            images, priority=priority, deadline=deadline, caller=caller
        )
        return self._fill(embedder_pb2.EmbedImagesResponse(), embedded, request, started)

    async def _embed_texts(
        self,
        request: embedder_pb2.EmbedTextsRequest,
        context: Context,
        default: Priority,
        caller: Caller = None,
    ) -> embedder_pb2.EmbedTextsResponse:
        started = time.monotonic()
        priority = self._checks.priority(request, default)
        texts = self._checks.texts(request.texts)
        deadline = started + remaining_seconds(context, self._call_timeout)
        embedded = await self._engine.embed_texts(texts, priority=priority, deadline=deadline, caller=caller)
        return self._fill(embedder_pb2.EmbedTextsResponse(), embedded, request, started)

    def _fill(
        self, response: Response, embedded: EmbedResult, request: EmbedRequest, started: float
    ) -> Response:
        features = vectors.pack(
            embedded.features, fingerprint=self._checks.fingerprint, encoding=request.encoding
        )
        response.features.CopyFrom(features)
        response.errors.extend(_item_error(index, error) for index, error in sorted(embedded.errors.items()))
        timings = response.timings
        timings.decode.CopyFrom(_duration(embedded.decode_seconds))
        timings.queue.CopyFrom(_duration(embedded.queue_seconds))
        timings.forward.CopyFrom(_duration(embedded.forward_seconds))
        timings.total.CopyFrom(_duration(time.monotonic() - started))
        timings.cache_hits = embedded.cache_hits
        return response


def _item_error(index: int, error: Exception) -> pb.ItemError:
    if isinstance(error, ServiceError):
        return error.item_error(index)
    # The model itself failed on this item alone: our fault, and logged.
    failure = ServiceError(pb.MODEL_FAILED, "the model failed on this item; the service's log has the reason")
    return failure.item_error(index)


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration


Request = TypeVar("Request")
Answer = TypeVar("Answer")


async def map_concurrently(
    requests: AsyncIterator[Request], answer: Callable[[Request], Awaitable[Answer]], *, limit: int
) -> AsyncGenerator[Answer, None]:
    """Yield the answer to each request, at most `limit` being worked on.

    The next request is read only when there is room for it, so flow control holds a fast sender. An
    exception of `answer` ends the stream. Whatever ends it cancels the work that is under way.
    """
    source = aiter(requests)
    working: set[asyncio.Task[Answer]] = set()
    reading: asyncio.Task[Request | None] | None = None
    ended = False
    try:
        while True:
            if reading is None and not ended and len(working) < limit:
                reading = asyncio.create_task(_read(source))
            waited_for: set[asyncio.Task[Any]] = {*working} if reading is None else {*working, reading}
            if not waited_for:
                return
            done, _ = await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
            if reading is not None and reading in done:
                request = reading.result()
                reading = None
                if request is None:
                    ended = True
                else:
                    working.add(asyncio.create_task(_run(answer, request)))
            for finished in working & done:
                working.discard(finished)
                yield finished.result()
    finally:
        left: list[asyncio.Task[Any]] = [*working] if reading is None else [*working, reading]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _read(source: AsyncIterator[Request]) -> Request | None:
    return await anext(source, None)


async def _run(answer: Callable[[Request], Awaitable[Answer]], request: Request) -> Answer:
    return await answer(request)
