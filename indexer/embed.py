"""The embedder as the indexer uses it: over gRPC, in batches, with retries, one model a run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import grpc
import grpc.aio
import numpy as np

from cir.channel import MAX_MESSAGE_BYTES, metadata, open_async_channel
from cir.common.v1 import errors_pb2
from cir.common.v1.model_pb2 import ModelInfo
from cir.embedder.v1 import embedder_pb2 as pb
from cir.embedder.v1 import embedder_pb2_grpc as rpc
from cir.errors import CirError, Overloaded, from_rpc_error
from cir.vectors import VectorError, unpack
from indexer.errors import EmbedderFailed
from indexer.items import EmbeddedItem, LoadedItem
from indexer.options import IndexingOptions
from indexer.rejects import FEATURES_NOT_FINITE, Reject
from indexer.retry import retrying


class ImageEmbedder(Protocol):
    """Embeds batches of pictures with one model. The limits are for the one that makes the batches."""

    model: ModelInfo
    #: Pictures in one call.
    batch_items: int
    #: Bytes of pictures in one call.
    batch_bytes: int
    #: Bytes of one picture.
    image_bytes: int

    async def embed(self, batch: Sequence[LoadedItem]) -> list[EmbeddedItem | Reject]:
        """Entry i of the answer is what became of item i. Raises `IndexingError`."""


_TRY_AGAIN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        # How a call ends whose server stops before its answer is ready.
        grpc.StatusCode.CANCELLED,
    }
)
# Codes of single items that say nothing about the picture: the batch is sent again.
_ITEM_TRY_AGAIN = frozenset(code.value[0] for code in (*_TRY_AGAIN, grpc.StatusCode.RESOURCE_EXHAUSTED))
# What a request holds beside the pictures: fields, lengths, the fingerprint.
_REQUEST_OVERHEAD = 1024
_ITEM_OVERHEAD = 32


class Embedder:
    """One embedder (or several replicas behind one name) whose model is fixed when the run starts."""

    def __init__(
        self,
        stub: rpc.EmbedderServiceAsyncStub,
        address: str,
        info: pb.GetEmbedderInfoResponse,
        options: IndexingOptions,
    ) -> None:
        self._stub = stub
        self._address = address
        self._options = options
        self._metadata = metadata(options.embedder_api_key.get_secret_value())
        self.model: ModelInfo = info.model
        limits = info.limits
        #: Pictures in one call.
        self.batch_items = min(options.batch_items, limits.max_batch_items or options.batch_items)
        message = min(limits.max_message_bytes or MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES)
        content = max(1, message - _REQUEST_OVERHEAD - _ITEM_OVERHEAD * self.batch_items)
        #: Bytes of pictures in one call.
        self.batch_bytes = min(options.batch_bytes, content)
        #: Bytes of one picture.
        self.image_bytes = min(limits.max_image_bytes or content, content)

    async def embed(self, batch: Sequence[LoadedItem]) -> list[EmbeddedItem | Reject]:
        """Embed pictures; entry i of the answer is what became of item i.

        Tried again while the embedder is away or full. Raises `EmbedderFailed` when that lasts longer than
        the options allow, and for every other refusal of the batch as a whole.
        """
        request = pb.EmbedImagesRequest(
            images=[pb.ImageInput(content=item.content) for item in batch],
            priority=pb.BULK,
            expected_model_fingerprint=self.model.fingerprint,
        )

        async def attempt() -> list[EmbeddedItem | Reject]:
            timeout = self._options.call_timeout_seconds
            try:
                response = await self._stub.EmbedImages(request, timeout=timeout, metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error, address=self._address, timeout=timeout) from error
            return self._read(batch, response)

        try:
            return await retrying(attempt, wait_asked=_wait_asked, seconds=self._options.retry_seconds)
        except CirError as error:
            raise _failed(self._address, error) from error

    def _read(
        self, batch: Sequence[LoadedItem], response: pb.EmbedImagesResponse
    ) -> list[EmbeddedItem | Reject]:
        features = response.features
        if features.model_fingerprint not in ("", self.model.fingerprint):
            raise EmbedderFailed(
                f"embedder at {self._address} changed its model from {self.model.fingerprint} to "
                f"{features.model_fingerprint} during the run; start the run again"
            )
        try:
            rows = unpack(features, dimension=self.model.dimension, finite=False)
        except VectorError as error:
            raise EmbedderFailed(
                f"embedder at {self._address} sent features that cannot be read: {error}"
            ) from error
        errors = {error.index: error for error in response.errors}
        if len(rows) != len(batch) or any(index >= len(batch) for index in errors):
            raise EmbedderFailed(
                f"embedder at {self._address} answered {len(rows)} rows to {len(batch)} pictures; "
                "it does not keep its contract, so update it"
            )
        for item_error in errors.values():
            if item_error.code in _ITEM_TRY_AGAIN:
                raise Overloaded(f"picture {item_error.index} of a batch was put off: {item_error.message}")
        usable = np.logical_and(np.isfinite(rows).all(axis=1), rows.any(axis=1))
        return [
            _rejected(item, errors.get(index))
            if index in errors or not usable[index]
            else EmbeddedItem(item.item, rows[index], item.stamp, item.change)
            for index, item in enumerate(batch)
        ]


@asynccontextmanager
async def open_embedder(address: str, options: IndexingOptions) -> AsyncIterator[Embedder]:
    """Connect to the embedder at "host:port" and ask for its model and limits. Raises `EmbedderFailed`."""
    try:
        opened = open_async_channel(address, tls=options.embedder_tls)
        sent = metadata(options.embedder_api_key.get_secret_value())
    except (OSError, CirError) as error:
        raise EmbedderFailed(f"embedder at {address} cannot be called as the options say: {error}") from error
    async with opened as channel:
        stub: rpc.EmbedderServiceAsyncStub = rpc.EmbedderServiceStub(channel)

        async def ask() -> pb.GetEmbedderInfoResponse:
            timeout = min(options.call_timeout_seconds, max(options.connect_seconds, 1.0))
            try:
                return await stub.GetEmbedderInfo(pb.GetEmbedderInfoRequest(), timeout=timeout, metadata=sent)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error, address=address, timeout=timeout) from error

        try:
            info = await retrying(ask, wait_asked=_wait_asked, seconds=options.connect_seconds)
        except CirError as error:
            raise _failed(address, error) from error
        if not info.model.fingerprint or not info.model.dimension:
            raise EmbedderFailed(f"embedder at {address} does not say which model it holds; update it")
        yield Embedder(stub, address, info, options)


def _wait_asked(error: Exception) -> float | None:
    if isinstance(error, CirError) and (isinstance(error, Overloaded) or error.code in _TRY_AGAIN):
        return error.retry_after or 0.0
    return None


def _rejected(item: LoadedItem, error: errors_pb2.ItemError | None) -> Reject:
    if error is None:
        reason, message = FEATURES_NOT_FINITE, "the model gives no usable features for this picture"
    else:
        reason, message = _reason_name(error.reason), error.message
    return Reject(item.item.id, item.item.image, reason, message, len(item.content))


def _reason_name(reason: errors_pb2.ErrorReason.ValueType) -> str:
    try:
        return errors_pb2.ErrorReason.Name(reason)
    except ValueError:  # of a newer embedder
        return f"REASON_{reason}"


def _failed(address: str, error: CirError) -> EmbedderFailed:
    if error.code is grpc.StatusCode.UNAVAILABLE:
        return EmbedderFailed(
            f"embedder at {address} is not available: {error.message}. Start it with "
            "`python -m embedder_service` (or everything with `cir up`), or name another with --embedder"
        )
    return EmbedderFailed(f"embedder at {address} failed with {error.code.name}: {error.message}")
