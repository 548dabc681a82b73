"""The embedder, as the search service calls it."""

from __future__ import annotations

from collections.abc import Sequence

import grpc.aio
import numpy as np
from numpy.typing import NDArray

from cir.common.v1 import errors_pb2, model_pb2, vectors_pb2
from cir.embedder.v1 import embedder_pb2 as pb
from cir.embedder.v1 import embedder_pb2_grpc as rpc
from cir.vectors import unpack
from search_service.upstreams import check_fingerprint
from service_runtime.errors import ServiceError
from service_runtime.interceptor import call_metadata
from service_runtime.upstream import to_service_error


class EmbedderClient:
    """Features from an embedder over one channel."""

    def __init__(
        self, channel: grpc.aio.Channel, address: str, metadata: Sequence[tuple[str, str]] = ()
    ) -> None:
        self._stub: rpc.EmbedderServiceAsyncStub = rpc.EmbedderServiceStub(channel)
        self._address = address
        self._metadata = tuple(metadata)

    async def info(self, *, timeout: float) -> model_pb2.ModelInfo:
        """The embedder's model. Raises `ServiceError` (EMBEDDER_UNAVAILABLE)."""
        try:
            answer = await self._stub.GetEmbedderInfo(
                pb.GetEmbedderInfoRequest(), timeout=timeout, metadata=self._sent()
            )
        except grpc.aio.AioRpcError as error:
            raise self._refusal(error) from error
        return answer.model

    async def try_embed_images(
        self, images: Sequence[bytes], *, fingerprint: str, timeout: float
    ) -> tuple[NDArray[np.float32], Sequence[errors_pb2.ItemError]]:
        """Raw features (n, d), with rows of NaN for the pictures that the errors name."""
        request = pb.EmbedImagesRequest(
            images=[pb.ImageInput(content=image) for image in images], expected_model_fingerprint=fingerprint
        )
        try:
            answer = await self._stub.EmbedImages(request, timeout=timeout, metadata=self._sent())
        except grpc.aio.AioRpcError as error:
            raise self._refusal(error) from error
        return self._rows(answer.features, len(images), fingerprint), answer.errors

    async def try_embed_texts(
        self, texts: Sequence[str], *, fingerprint: str, timeout: float
    ) -> tuple[NDArray[np.float32], Sequence[errors_pb2.ItemError]]:
        """Raw features (n, d), with rows of NaN for the texts that the errors name."""
        request = pb.EmbedTextsRequest(texts=texts, expected_model_fingerprint=fingerprint)
        try:
            answer = await self._stub.EmbedTexts(request, timeout=timeout, metadata=self._sent())
        except grpc.aio.AioRpcError as error:
            raise self._refusal(error) from error
        return self._rows(answer.features, len(texts), fingerprint), answer.errors

    def _sent(self) -> tuple[tuple[str, str], ...]:
        """Metadata of every call: this service's own, and the request id of the call being served."""
        return (*self._metadata, *call_metadata())

    def _refusal(self, error: grpc.aio.AioRpcError) -> ServiceError:
        return to_service_error(
            error, service="embedder", address=self._address, unavailable=errors_pb2.EMBEDDER_UNAVAILABLE
        )

    def _rows(self, batch: vectors_pb2.VectorBatch, count: int, fingerprint: str) -> NDArray[np.float32]:
        check_fingerprint(
            batch.model_fingerprint, expected=fingerprint, source=f"the embedder at {self._address}"
        )
        try:
            rows = unpack(batch, finite=False)
        except ValueError as error:
            raise ServiceError(
                errors_pb2.EMBEDDER_UNAVAILABLE, f"the embedder at {self._address} gave a bad answer: {error}"
            ) from error
        if len(rows) != count:
            raise ServiceError(
                errors_pb2.EMBEDDER_UNAVAILABLE,
                f"the embedder at {self._address} gave {len(rows)} vectors for {count} inputs",
            )
        return rows
