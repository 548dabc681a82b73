"""The embedder as the indexer uses it: over gRPC, in batches, with retries, one model a run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import grpc
import numpy as np

from cir.channel import MAX_MESSAGE_BYTES, metadata, open_async_channel
from cir.common.v1 import errors_pb2
from cir.common.v1.model_pb2 import ModelInfo
from cir.embedder.v1 import embedder_pb2 as pb
from cir.embedder_client import BadAnswerError, EmbedderClient, ModelChangedError
from cir.errors import CirError
from cir.retry import BUSY_OR_AWAY, RetryPolicy
from indexer.errors import EmbedderFailed
from indexer.items import EmbeddedItem, LoadedItem
from indexer.options import IndexingOptions
from indexer.rejects import FEATURES_NOT_FINITE, Reject


class ImageEmbedder(Protocol):
    """Embeds batches of images with one model. The limits are for the one that makes the batches."""

    model: ModelInfo
    #: Images in one call.
    batch_items: int
    #: Bytes of images in one call.
    batch_bytes: int
    #: Bytes of one image.
    image_bytes: int

    async def embed(self, batch: Sequence[LoadedItem]) -> list[EmbeddedItem | Reject]:
        """Embed a batch; entry i of the answer is what became of item i.

        Raises:
            IndexingError: the embedding failed as a whole.
        """


# Bytes of a request next to the images: fields, lengths, the fingerprint.
_REQUEST_OVERHEAD = 1024
_ITEM_OVERHEAD = 32


class Embedder:
    """One embedder (or several replicas behind one name) whose model is fixed when the run starts."""

    def __init__(
        self, client: EmbedderClient, info: pb.GetEmbedderInfoResponse, options: IndexingOptions
    ) -> None:
        self._client = client
        self._timeout = options.call_timeout_seconds
        self.model: ModelInfo = info.model
        limits = info.limits
        #: Images in one call.
        self.batch_items = min(options.batch_items, limits.max_batch_items or options.batch_items)
        message = min(limits.max_message_bytes or MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES)
        content = max(1, message - _REQUEST_OVERHEAD - _ITEM_OVERHEAD * self.batch_items)
        #: Bytes of images in one call.
        self.batch_bytes = min(options.batch_bytes, content)
        #: Bytes of one image.
        self.image_bytes = min(limits.max_image_bytes or content, content)

    async def embed(self, batch: Sequence[LoadedItem]) -> list[EmbeddedItem | Reject]:
        """Embed images; entry i of the answer is what became of item i.

        Tried again while the embedder is away or full.

        Raises:
            EmbedderFailed: this lasts longer than the options allow, or the batch as a whole is refused for
                another reason.
        """
        try:
            answer = await self._client.embed_images(
                [item.content for item in batch],
                fingerprint=self.model.fingerprint,
                dimension=self.model.dimension,
                timeout=self._timeout,
                priority=pb.PRIORITY_BULK,
            )
        except CirError as error:
            raise _failed(self._client.address, error) from error
        rows = answer.features
        usable = np.logical_and(np.isfinite(rows).all(axis=1), rows.any(axis=1))
        return [
            _rejected(item, answer.errors.get(index))
            if index in answer.errors or not usable[index]
            else EmbeddedItem(item.item, rows[index], item.stamp, item.change)
            for index, item in enumerate(batch)
        ]


@asynccontextmanager
async def open_embedder(address: str, options: IndexingOptions) -> AsyncIterator[Embedder]:
    """Connect to the embedder at "host:port" and ask for its model and limits.

    Raises:
        EmbedderFailed: the embedder cannot be reached or gives no such answer.
    """
    try:
        opened = open_async_channel(address, tls=options.embedder_tls)
        sent = metadata(options.embedder_api_key)
    except (OSError, CirError) as error:
        raise EmbedderFailed(f"embedder at {address} cannot be called as the options say: {error}") from error
    async with opened as channel:
        client = EmbedderClient(
            channel,
            address,
            metadata=lambda: sent,
            retry=RetryPolicy(options.retry_seconds, BUSY_OR_AWAY),
        )
        timeout = min(options.call_timeout_seconds, max(options.connect_seconds, 1.0))
        try:
            info = await client.info(
                timeout=timeout, retry=RetryPolicy(options.connect_seconds, BUSY_OR_AWAY)
            )
        except CirError as error:
            raise _failed(address, error) from error
        if not info.model.fingerprint or not info.model.dimension:
            raise EmbedderFailed(f"embedder at {address} does not say which model it holds; update it")
        yield Embedder(client, info, options)


def _rejected(item: LoadedItem, error: errors_pb2.ItemError | None) -> Reject:
    if error is None:
        reason, message = FEATURES_NOT_FINITE, "the model gives no usable features for this image"
    else:
        reason, message = _reason_name(error.reason), error.message
    return Reject(item.item.id, item.item.image, reason, message, len(item.content))


def _reason_name(reason: errors_pb2.ErrorReason.ValueType) -> str:
    try:
        return errors_pb2.ErrorReason.Name(reason)
    except ValueError:  # of a newer embedder
        return f"REASON_{reason}"


def _failed(address: str, error: CirError) -> EmbedderFailed:
    if isinstance(error, ModelChangedError):
        return EmbedderFailed(
            f"embedder at {address} changed its model from {error.expected} to {error.actual} during the "
            "run; start the run again"
        )
    if isinstance(error, BadAnswerError):
        return EmbedderFailed(f"{error.message}; it does not keep its contract, so update it")
    if error.code is grpc.StatusCode.UNAVAILABLE:
        return EmbedderFailed(
            f"embedder at {address} is not available: {error.message}. Start it with "
            "`python -m embedder_service` (or everything with `cir up`), or name another with `embedder`"
        )
    return EmbedderFailed(f"embedder at {address} failed with {error.code.name}: {error.message}")
