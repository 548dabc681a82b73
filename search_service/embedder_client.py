"""The embedder behind the search service: the client that all share, whose failures become refusals."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TypeVar

import grpc.aio
import numpy as np
from numpy.typing import NDArray

from cir.channel import MAX_MESSAGE_BYTES
from cir.common.v1 import errors_pb2, model_pb2
from cir.embedder.v1 import embedder_pb2
from cir.embedder_client import BadAnswerError, EmbeddedBatch, Metadata, ModelChangedError
from cir.embedder_client import EmbedderClient as SharedEmbedderClient
from cir.errors import CirError
from cir.retry import BUSY_OR_AWAY, RetryPolicy
from search_service.query import TextCut
from search_service.upstreams import check_fingerprint
from service_runtime.errors import ServiceError
from service_runtime.interceptor import call_metadata
from service_runtime.upstream import to_service_error

T = TypeVar("T")

# One call of a bulk, and how long it is tried again while the embedder is away or full.
_BULK_CALL_SECONDS = 120.0
_BULK_RETRY_SECONDS = 60.0
# Images in one call, where the embedder does not say.
_BULK_ITEMS = 32
# Bytes of a request next to its images.
_MESSAGE_OVERHEAD = 64 * 1024


class EmbedderClient:
    """Features from an embedder over one channel. Nothing but bulk is tried again: a caller waits."""

    def __init__(self, channel: grpc.aio.Channel, address: str, metadata: Metadata = ()) -> None:
        self._address = address

        # This service's own metadata, and the request id of the call being served.
        def sent() -> Metadata:
            return (*metadata, *call_metadata())

        self._client = SharedEmbedderClient(channel, address, metadata=sent)
        retry = RetryPolicy(_BULK_RETRY_SECONDS, BUSY_OR_AWAY)
        self._bulk = SharedEmbedderClient(channel, address, metadata=sent, retry=retry)

    async def info(self, *, timeout: float) -> model_pb2.ModelInfo:
        """Return the embedder's model.

        Raises:
            ServiceError: EMBEDDER_UNAVAILABLE when the embedder cannot be reached.
        """
        answer = await self._translated(self._client.info(timeout=timeout))
        return answer.model

    async def batch_limits(self, *, timeout: float) -> tuple[int, int]:
        """Return how many images one call may have, and how many bytes in all."""
        limits = (await self._translated(self._client.info(timeout=timeout))).limits
        message = min(limits.max_message_bytes or MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES)
        return limits.max_batch_items or _BULK_ITEMS, max(1, message - _MESSAGE_OVERHEAD)

    async def embed_in_bulk(
        self, images: Sequence[bytes], *, fingerprint: str, dimension: int
    ) -> tuple[NDArray[np.float32], Sequence[errors_pb2.ItemError]]:
        """Return what `try_embed_images` does, after everybody who waits, and patiently: a busy embedder, or
        one that is being replaced, is asked again for some time."""
        call = self._bulk.embed_images(
            images,
            fingerprint=fingerprint,
            dimension=dimension,
            timeout=_BULK_CALL_SECONDS,
            priority=embedder_pb2.PRIORITY_BULK,
        )
        return _rows_and_errors(await self._translated(call))

    async def try_embed_images(
        self, images: Sequence[bytes], *, fingerprint: str, timeout: float
    ) -> tuple[NDArray[np.float32], Sequence[errors_pb2.ItemError]]:
        """Return raw features (n, d), with rows of NaN for the images that the errors name."""
        call = self._client.embed_images(images, fingerprint=fingerprint, timeout=timeout)
        return _rows_and_errors(await self._translated(call))

    async def try_embed_texts(
        self, texts: Sequence[str], *, fingerprint: str, timeout: float
    ) -> EmbeddedBatch:
        """Return raw features (n, d), with rows of NaN for the texts that the errors name."""
        return await self._translated(
            self._client.embed_texts(texts, fingerprint=fingerprint, timeout=timeout)
        )

    async def embed_prompt(
        self,
        template: str,
        text: str,
        word: NDArray[np.float32],
        *,
        fingerprint: str,
        timeout: float,
        dimension: int,
    ) -> tuple[NDArray[np.float32], TextCut | None]:
        """Return raw features (d,) of a sentence with a word embedding (token width,), and where it was cut.

        Raises:
            ServiceError: the sentence cannot be embedded.
        """
        call = self._client.embed_prompts(
            template, [text], word[None], fingerprint=fingerprint, timeout=timeout, dimension=dimension
        )
        try:
            batch = await self._translated(call)
        except ServiceError as error:
            if error.reason != errors_pb2.WRONG_DIMENSION:
                raise
            raise ServiceError(
                errors_pb2.COMBINER_UNUSABLE,
                f"the combiner gives words of {len(word)} values, which the text tower of model "
                f"{fingerprint} does not take: it was trained on another model; use one of this model",
                field="combiner",
            ) from error
        for problem in batch.errors.values():
            raise ServiceError(problem.reason, problem.message)
        cut = batch.cuts.get(0)
        return batch.features[0], TextCut(cut.tokens, cut.read_tokens) if cut else None

    async def embed_query(
        self, encoder: str, image: bytes, text: str, *, fingerprint: str, timeout: float, dimension: int
    ) -> NDArray[np.float32]:
        """Return the query (d,) of an encoded image and a text by a joint encoder.

        Raises:
            ServiceError: they cannot be embedded.
        """
        call = self._client.embed_queries(
            encoder, [image], [text], fingerprint=fingerprint, timeout=timeout, dimension=dimension
        )
        batch = await self._translated(call)
        for problem in batch.errors.values():
            raise ServiceError(problem.reason, problem.message)
        row: NDArray[np.float32] = batch.features[0]
        return row

    async def whole_info(self, *, timeout: float) -> embedder_pb2.GetEmbedderInfoResponse:
        """Return the embedder's model, limits and joint encoders. Raises as `info` does."""
        return await self._translated(self._client.info(timeout=timeout))

    async def _translated(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except ModelChangedError as error:
            check_fingerprint(
                error.actual, expected=error.expected, source=f"the embedder at {self._address}"
            )
            raise
        except BadAnswerError as error:
            raise ServiceError(errors_pb2.EMBEDDER_UNAVAILABLE, error.message) from error
        except CirError as error:
            raise to_service_error(
                error,
                service="embedder",
                address=self._address,
                unavailable=errors_pb2.EMBEDDER_UNAVAILABLE,
                fields={"encoder": "combiner"},
            ) from error


def _rows_and_errors(
    batch: EmbeddedBatch,
) -> tuple[NDArray[np.float32], Sequence[errors_pb2.ItemError]]:
    return batch.features, list(batch.errors.values())
