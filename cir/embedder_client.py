"""Client of the embedder for services and tools: images and texts in, raw features out, checked in one place.

Applications use `cir.Client`, which talks to the search service; this is for what computes with features.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import grpc
import grpc.aio
import numpy as np
from numpy.typing import NDArray

from cir.channel import call_timeout
from cir.common.v1 import errors_pb2, vectors_pb2
from cir.embedder.v1 import embedder_pb2 as pb
from cir.embedder.v1 import embedder_pb2_grpc as rpc
from cir.errors import CirError, FailedPrecondition, Overloaded, from_rpc_error
from cir.retry import NO_RETRY, RetryPolicy
from cir.vectors import VectorError, pack, unpack

Metadata = tuple[tuple[str, str], ...]
T = TypeVar("T")


class BadAnswerError(CirError):
    """The embedder answered something that its contract rules out; the message says what."""

    code = grpc.StatusCode.INTERNAL


class ModelChangedError(FailedPrecondition):
    """The features come from another model (`actual`) than the call asked for (`expected`)."""

    def __init__(self, message: str, *, expected: str, actual: str) -> None:
        super().__init__(
            message,
            reason=errors_pb2.ErrorReason.Name(errors_pb2.FINGERPRINT_MISMATCH),
            metadata={"expected": expected, "actual": actual},
        )
        self.expected = expected
        self.actual = actual


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedBatch:
    """Raw features, float32 (n, d), one row for each input; rows named by `errors` hold no features.

    `cuts` has an entry for each text that the model read only the beginning of.
    """

    features: NDArray[np.float32]
    errors: Mapping[int, errors_pb2.ItemError]
    cuts: Mapping[int, pb.TextCut] = field(default_factory=dict)


class EmbedderClient:
    """Features from one embedder, or from several replicas behind one name, over one asyncio channel.

    `metadata` is asked before each attempt for what goes with the call; `retry` says which failures are
    tried again. Every call raises a subclass of `CirError`.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        address: str,
        *,
        metadata: Callable[[], Metadata] = lambda: (),
        retry: RetryPolicy = NO_RETRY,
    ) -> None:
        self._stub: rpc.EmbedderServiceAsyncStub = rpc.EmbedderServiceStub(channel)
        self.address = address
        self._metadata = metadata
        self._retry = retry

    async def info(self, *, timeout: float, retry: RetryPolicy | None = None) -> pb.GetEmbedderInfoResponse:
        """Return the model and the limits of the embedder."""
        return await self._call(
            self._stub.GetEmbedderInfo, pb.GetEmbedderInfoRequest(), timeout, lambda answer: answer, retry
        )

    async def embed_images(
        self,
        images: Sequence[bytes],
        *,
        fingerprint: str,
        timeout: float,
        dimension: int = 0,
        priority: pb.Priority.ValueType = pb.PRIORITY_UNSPECIFIED,
    ) -> EmbeddedBatch:
        """Embed encoded images with the model of `fingerprint`; `dimension` 0 takes what comes.

        Raises:
            ModelChangedError: the features come from another model.
            BadAnswerError: rows, dimension or errors do not fit the request.
            CirError: the call failed, and the policy tries no longer.
        """
        request = pb.EmbedImagesRequest(images=_inputs(images))
        return await self._embed(
            self._stub.EmbedImages, request, len(images), fingerprint, timeout, dimension, priority
        )

    async def embed_texts(
        self,
        texts: Sequence[str],
        *,
        fingerprint: str,
        timeout: float,
        dimension: int = 0,
        priority: pb.Priority.ValueType = pb.PRIORITY_UNSPECIFIED,
    ) -> EmbeddedBatch:
        """Embed texts. Raises as `embed_images` does."""
        request = pb.EmbedTextsRequest(texts=texts)
        return await self._embed(
            self._stub.EmbedTexts, request, len(texts), fingerprint, timeout, dimension, priority
        )

    async def embed_prompts(
        self,
        template: str,
        texts: Sequence[str],
        word_embeddings: NDArray[np.float32],
        *,
        fingerprint: str,
        timeout: float,
        dimension: int = 0,
        priority: pb.Priority.ValueType = pb.PRIORITY_UNSPECIFIED,
    ) -> EmbeddedBatch:
        """Embed sentences after a template, each of a text and a word embedding, (n, token width).

        Raises as `embed_images` does.
        """
        request = pb.EmbedPromptsRequest(
            template=template, texts=texts, word_embeddings=pack(word_embeddings)
        )
        return await self._embed(
            self._stub.EmbedPrompts, request, len(texts), fingerprint, timeout, dimension, priority
        )

    async def embed_queries(
        self,
        encoder: str,
        images: Sequence[bytes],
        texts: Sequence[str],
        *,
        fingerprint: str,
        timeout: float,
        dimension: int = 0,
        priority: pb.Priority.ValueType = pb.PRIORITY_UNSPECIFIED,
    ) -> EmbeddedBatch:
        """Embed encoded images with their texts by a joint encoder. Raises as `embed_images` does."""
        request = pb.EmbedQueriesRequest(encoder=encoder, images=_inputs(images), texts=texts)
        return await self._embed(
            self._stub.EmbedQueries, request, len(images), fingerprint, timeout, dimension, priority
        )

    async def _embed(
        self,
        method: Callable[..., Awaitable[Any]],
        request: Any,
        count: int,
        fingerprint: str,
        timeout: float,
        dimension: int,
        priority: pb.Priority.ValueType,
    ) -> EmbeddedBatch:
        request.priority, request.expected_model_fingerprint = priority, fingerprint

        def read(answer: Any) -> EmbeddedBatch:
            batch = self._read(answer.features, answer.errors, count, fingerprint, dimension)
            cuts: Sequence[pb.TextCut] = getattr(answer, "cuts", ())
            return replace(batch, cuts={cut.index: cut for cut in cuts if cut.index < count})

        return await self._call(method, request, timeout, read)

    async def _call(
        self,
        method: Callable[..., Awaitable[Any]],
        request: Any,
        timeout: float,
        read: Callable[[Any], T],
        retry: RetryPolicy | None = None,
    ) -> T:
        """Carry a call out as the policy says; each attempt has the whole time and metadata of its own."""

        async def attempt() -> T:
            try:
                answer = await method(request, timeout=call_timeout(timeout), metadata=self._metadata())
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error, address=self.address, timeout=timeout) from error
            return read(answer)

        return await (retry or self._retry).run(attempt)

    def _read(
        self,
        batch: vectors_pb2.VectorBatch,
        item_errors: Sequence[errors_pb2.ItemError],
        count: int,
        fingerprint: str,
        dimension: int,
    ) -> EmbeddedBatch:
        """Check that an answer keeps the contract. Features that name no model pass."""
        actual = batch.model_fingerprint
        if actual and actual != fingerprint:
            raise ModelChangedError(
                f"the embedder at {self.address} answered with features of model {actual[:200]}, "
                f"expected those of model {fingerprint}",
                expected=fingerprint,
                actual=actual,
            )
        try:
            rows = unpack(batch, dimension=dimension, finite=False)
        except VectorError as error:
            raise self._bad_answer(f"features that cannot be read: {error}") from error
        if len(rows) != count:
            raise self._bad_answer(f"{len(rows)} rows for {count} inputs")
        errors = {error.index: error for error in item_errors}
        if outside := [index for index in errors if index >= count]:
            raise self._bad_answer(f"an error of input {outside[0]}, although {count} were sent")
        for index, item_error in errors.items():
            if self._retry.is_for_item(item_error.code):
                raise Overloaded(f"input {index} of a batch was put off: {item_error.message}")
        return EmbeddedBatch(rows, errors)

    def _bad_answer(self, what: str) -> BadAnswerError:
        return BadAnswerError(f"the embedder at {self.address} gave a bad answer: {what}")


def _inputs(images: Sequence[bytes]) -> list[pb.ImageInput]:
    return [pb.ImageInput(content=image) for image in images]
