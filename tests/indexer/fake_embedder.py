"""An embedder over real gRPC whose features are a hash of the image's bytes, and which fails on demand."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import numpy as np
from numpy.typing import NDArray

from cir.channel import MAX_MESSAGE_BYTES
from cir.common.v1 import errors_pb2
from cir.common.v1.model_pb2 import ModelInfo
from cir.embedder.v1 import embedder_pb2 as pb
from cir.embedder.v1 import embedder_pb2_grpc as rpc
from cir.vectors import pack
from service_runtime.errors import ServiceError

DIMENSION = 16
FINGERPRINT = "fingerprint-of-the-fake"

ItemFault = Callable[[bytes], errors_pb2.ErrorReason.ValueType | None]


def features_of(content: bytes) -> NDArray[np.float32]:
    """Raw features, float32 (DIMENSION,), that depend on the bytes alone."""
    seed = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())
    return np.random.default_rng(seed).normal(0, 3, DIMENSION).astype(np.float32)


def refuses_what_pillow_would(content: bytes) -> errors_pb2.ErrorReason.ValueType | None:
    """Tells JPEGs by their first and last bytes, which is enough for the tests' images."""
    if not content.startswith(b"\xff\xd8"):
        return errors_pb2.IMAGE_UNREADABLE
    return None if content.endswith(b"\xff\xd9") else errors_pb2.IMAGE_TRUNCATED


class FakeEmbedder(rpc.EmbedderServiceServicer):
    """Counts calls; `call_faults` are raised by the next calls, one each."""

    def __init__(self) -> None:
        self.fingerprint = FINGERPRINT
        self.limits = pb.EmbedderLimits(
            max_image_bytes=100_000, max_batch_items=8, max_message_bytes=MAX_MESSAGE_BYTES
        )
        self.item_fault: ItemFault = refuses_what_pillow_would
        self.call_faults: list[ServiceError] = []
        self.batches: list[pb.EmbedImagesRequest] = []
        self.info_calls = 0
        self.under_way = 0
        self.most_under_way = 0
        self.before_answer: Callable[[int], Any] | None = None
        self.break_answer: Callable[[pb.EmbedImagesResponse], None] | None = None

    async def GetEmbedderInfo(self, request: Any, context: Any) -> pb.GetEmbedderInfoResponse:
        self.info_calls += 1
        await self._fault(context)
        model = ModelInfo(
            fingerprint=self.fingerprint,
            architecture="hash",
            pretrained="none",
            dimension=DIMENSION,
            image_size=8,
            preprocessing="targetpad",
            target_ratio=1.25,
            device="cpu",
            dtype="float32",
        )
        return pb.GetEmbedderInfoResponse(model=model, limits=self.limits, version="0")

    async def EmbedImages(self, request: Any, context: Any) -> pb.EmbedImagesResponse:
        self.batches.append(request)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.before_answer is not None:
                await self.before_answer(len(self.batches))
            await asyncio.sleep(0.001)
            await self._fault(context)
            if request.expected_model_fingerprint not in ("", self.fingerprint):
                raise AssertionError("the real service refuses this; use call_faults")
        finally:
            self.under_way -= 1
        rows = np.full((len(request.images), DIMENSION), np.nan, dtype=np.float32)
        errors = []
        for index, image in enumerate(request.images):
            reason = self.item_fault(image.content)
            if reason is None:
                rows[index] = features_of(image.content)
            else:
                name = errors_pb2.ErrorReason.Name(reason)
                errors.append(ServiceError(reason, f"image {index}: {name}").item_error(index))
        response = pb.EmbedImagesResponse(features=pack(rows, fingerprint=self.fingerprint), errors=errors)
        if self.break_answer is not None:
            self.break_answer(response)
        return response

    async def EmbedTexts(self, request: Any, context: Any) -> pb.EmbedTextsResponse:
        raise AssertionError("the indexer embeds no texts")

    def EmbedStream(self, request_iterator: Any, context: Any) -> Any:
        raise AssertionError("the indexer opens no streams")

    async def _fault(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if self.call_faults:
            error = self.call_faults.pop(0)
            status = error.status()
            await context.abort(status.code, status.details, status.trailing_metadata)


@asynccontextmanager
async def serve(embedder: FakeEmbedder, port: int = 0) -> AsyncIterator[str]:
    """Serve on loopback; yields "host:port". Calls under way when the block ends are cut off."""
    options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.so_reuseport", 0)]
    server = grpc.aio.server(options=options)
    rpc.add_EmbedderServiceServicer_to_server(embedder, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        await server.stop(None)
