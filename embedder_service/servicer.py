"""The RPCs of cir.embedder.v1.EmbedderService, thin over the engine.

Several batches of a stream are embedded at a time: reading ahead is bounded, answers go out when ready.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf import duration_pb2

from cir import vectors
from cir.common.v1 import errors_pb2 as pb
from cir.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from embedder_service.batching.jobs import Caller, Priority
from embedder_service.engine import EmbedResult, Engine
from embedder_service.requests import ImagesCall, PromptsCall, QueriesCall, RequestParser, TextsCall
from service_runtime.errors import ServiceError
from service_runtime.interceptor import remaining_seconds

Context = grpc.aio.ServicerContext[Any, Any]
Request = TypeVar("Request")
Answer = TypeVar("Answer")


class EmbedderServicer(embedder_pb2_grpc.EmbedderServiceServicer):
    """Serves one engine, from `serve` on; no call may come before it."""

    _engine: Engine
    _parser: RequestParser
    _info: embedder_pb2.GetEmbedderInfoResponse

    def __init__(self, *, call_timeout: float) -> None:
        self._call_timeout = call_timeout

    def serve(
        self, engine: Engine, parser: RequestParser, info: embedder_pb2.GetEmbedderInfoResponse
    ) -> None:
        """Answer from `engine` from now on."""
        self._engine, self._parser, self._info = engine, parser, info

    async def GetEmbedderInfo(
        self, request: embedder_pb2.GetEmbedderInfoRequest, context: Context
    ) -> embedder_pb2.GetEmbedderInfoResponse:
        """Return the model and the limits."""
        return self._info

    async def EmbedImages(
        self, request: embedder_pb2.EmbedImagesRequest, context: Context
    ) -> embedder_pb2.EmbedImagesResponse:
        """Embed images."""
        started = time.monotonic()
        call = self._parser.parse_images(request, Priority.INTERACTIVE)
        response = embedder_pb2.EmbedImagesResponse()
        self._fill(response, await self._embed(call, context, started), call, started)
        return response

    async def EmbedTexts(
        self, request: embedder_pb2.EmbedTextsRequest, context: Context
    ) -> embedder_pb2.EmbedTextsResponse:
        """Embed texts."""
        started = time.monotonic()
        call = self._parser.parse_texts(request, Priority.INTERACTIVE)
        response = embedder_pb2.EmbedTextsResponse()
        self._fill(response, await self._embed(call, context, started), call, started)
        return response

    async def EmbedPrompts(
        self, request: embedder_pb2.EmbedPromptsRequest, context: Context
    ) -> embedder_pb2.EmbedPromptsResponse:
        """Embed sentences with an image in them."""
        started = time.monotonic()
        call = self._parser.parse_prompts(request, Priority.INTERACTIVE)
        result = await self._engine.embed_prompts(
            call.template,
            call.texts,
            call.words,
            priority=call.priority,
            deadline=started + remaining_seconds(context, self._call_timeout),
        )
        response = embedder_pb2.EmbedPromptsResponse()
        self._fill(response, result, call, started)
        return response

    async def EmbedQueries(
        self, request: embedder_pb2.EmbedQueriesRequest, context: Context
    ) -> embedder_pb2.EmbedQueriesResponse:
        """Embed images with their texts by a joint encoder."""
        started = time.monotonic()
        call = self._parser.parse_queries(request, Priority.INTERACTIVE)
        result = await self._engine.embed_queries(
            call.encoder,
            call.pairs,
            priority=call.priority,
            deadline=started + remaining_seconds(context, self._call_timeout),
        )
        response = embedder_pb2.EmbedQueriesResponse()
        self._fill(response, result, call, started)
        return response

    async def EmbedStream(
        self, request_iterator: AsyncIterator[embedder_pb2.EmbedStreamRequest], context: Context
    ) -> AsyncIterator[embedder_pb2.EmbedStreamResponse]:
        """Embed batch after batch, several at a time."""
        # All batches of the stream take one caller's turns.
        answer = partial(self._embed_stream_batch, context, object())
        limit = self._info.limits.max_stream_batches
        async with aclosing(map_concurrently(request_iterator, answer, limit=limit)) as responses:
            async for response in responses:
                yield response

    async def _embed_stream_batch(
        self, context: Context, caller: Caller, request: embedder_pb2.EmbedStreamRequest
    ) -> embedder_pb2.EmbedStreamResponse:
        response = embedder_pb2.EmbedStreamResponse(batch_id=request.batch_id)
        try:
            call = self._parser.parse_stream_batch(request)
            del request  # a batch may wait for room: not with its images held twice
            result, started = await self._embed_with_room(call, context, caller)
        except ServiceError as error:
            response.error.CopyFrom(error.item_error(0))
        else:
            part = response.images if isinstance(call, ImagesCall) else response.texts
            self._fill(part, result, call, started)
        return response

    async def _embed_with_room(
        self, call: ImagesCall | TextsCall, context: Context, caller: Caller
    ) -> tuple[EmbedResult, float]:
        """Embed once there is room: a stream is held back by flow control, not refused.

        Returns the result, and the time when the attempt that gave it started.
        """
        while True:
            started = time.monotonic()
            try:
                return await self._embed(call, context, started, caller), started
            except ServiceError as error:
                if error.reason != pb.OVERLOADED:
                    raise
            await self._engine.admission.wait_for_room()

    async def _embed(
        self, call: ImagesCall | TextsCall, context: Context, started: float, caller: Caller = None
    ) -> EmbedResult:
        deadline = started + remaining_seconds(context, self._call_timeout)
        if isinstance(call, ImagesCall):
            return await self._engine.embed_images(
                call.images, priority=call.priority, deadline=deadline, caller=caller
            )
        return await self._engine.embed_texts(
            call.texts, priority=call.priority, deadline=deadline, caller=caller
        )

    def _fill(
        self,
        response: embedder_pb2.EmbedImagesResponse
        | embedder_pb2.EmbedTextsResponse
        | embedder_pb2.EmbedPromptsResponse
        | embedder_pb2.EmbedQueriesResponse,
        result: EmbedResult,
        call: ImagesCall | TextsCall | PromptsCall | QueriesCall,
        started: float,
    ) -> None:
        features = vectors.pack(result.features, fingerprint=self._parser.fingerprint, encoding=call.encoding)
        response.features.CopyFrom(features)
        response.errors.extend(_item_error(index, error) for index, error in sorted(result.errors.items()))
        if isinstance(response, embedder_pb2.EmbedTextsResponse | embedder_pb2.EmbedPromptsResponse):
            read = self._info.model.context_length
            response.cuts.extend(
                embedder_pb2.TextCut(index=index, tokens=tokens, read_tokens=read)
                for index, tokens in sorted(result.cuts.items())
                if index not in result.errors
            )
        timings = response.timings
        timings.decode.CopyFrom(to_duration(result.decode_seconds))
        timings.queue.CopyFrom(to_duration(result.queue_seconds))
        timings.forward.CopyFrom(to_duration(result.forward_seconds))
        timings.total.CopyFrom(to_duration(time.monotonic() - started))
        timings.cache_hits = result.cache_hits


def _item_error(index: int, error: Exception) -> pb.ItemError:
    if isinstance(error, ServiceError):
        return error.item_error(index)
    # The model itself failed on this item alone: an internal error, and logged.
    failure = ServiceError(pb.MODEL_FAILED, "the model failed on this item; the service's log has the reason")
    return failure.item_error(index)


def to_duration(seconds: float) -> duration_pb2.Duration:
    """Return seconds as a protobuf duration, to the nanosecond."""
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


async def map_concurrently(
    requests: AsyncIterator[Request],
    answer: Callable[[Request], Coroutine[Any, Any, Answer]],
    *,
    limit: int,
) -> AsyncGenerator[Answer, None]:
    """Yield the answer to each request as it is ready, with at most `limit` being worked on.

    The next request is read only when there is room for it, so flow control holds back a fast sender. An
    exception of `answer` ends the stream. Whatever ends it cancels the work that has not finished.
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
                    working.add(asyncio.create_task(answer(request)))
                del request
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
