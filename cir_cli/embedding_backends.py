"""What `cir features extract` embeds with: the embedder's own code in this process, or a running embedder."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import grpc
import numpy as np

from cir.channel import MAX_MESSAGE_BYTES, metadata, open_channel
from cir.common.v1.model_pb2 import ModelInfo
from cir.embedder.v1 import embedder_pb2 as pb
from cir.embedder.v1.embedder_pb2_grpc import EmbedderServiceStub
from cir.errors import CirError, Overloaded, from_rpc_error
from cir.vectors import VectorError, unpack
from cir_cli.errors import Failure
from cir_cli.options import Access
from combiner_training.extract import EmbeddedBatch, ModelIdentity
from embedder_service.images.decode import decoder_for
from embedder_service.model.load import load
from embedder_service.settings import EmbedderSettings
from service_runtime.errors import ServiceError, StartupError

_TIMEOUT_S = 300.0
_PATIENCE_S = 120.0
# What a message holds beside the pictures.
_OVERHEAD = 64 * 1024

Answer = TypeVar("Answer", pb.EmbedImagesResponse, pb.EmbedTextsResponse)
Got = TypeVar("Got")


def identity_of(info: ModelInfo) -> ModelIdentity:
    """A model's identity as a feature file keeps it."""
    return ModelIdentity(
        info.fingerprint,
        info.dimension,
        {
            "architecture": info.architecture,
            "pretrained": info.pretrained,
            "preprocessing": info.preprocessing,
            "target_ratio": f"{info.target_ratio:g}",
            "image_size": str(info.image_size),
            "dtype": info.dtype,
        },
    )


class LocalModel:
    """The frozen CLIP in this process, with the settings of an embedder. Raises Failure."""

    def __init__(self, settings: EmbedderSettings, batch_items: int) -> None:
        try:
            held = load(settings)
        except StartupError as error:
            raise Failure(str(error)) from error
        self._model = held.model
        self._preprocess = held.preprocessor
        self._decode = decoder_for(settings, held.preprocessor.size)
        self._pool = ThreadPoolExecutor(settings.prepare_threads or None)
        # One pass at a time; decoding goes on beside it.
        self._device = threading.Lock()
        self.identity = identity_of(held.info)
        self.batch_items = batch_items

    def embed_images(self, pictures: Sequence[bytes]) -> EmbeddedBatch:
        """Features of encoded pictures; one that cannot be read fails alone."""

        def prepare(content: bytes) -> np.ndarray | str:
            try:
                return self._preprocess(self._decode(content))
            except ServiceError as error:
                return str(error)

        prepared = list(self._pool.map(prepare, pictures))
        errors = {index: one for index, one in enumerate(prepared) if isinstance(one, str)}
        sound = [index for index in range(len(prepared)) if index not in errors]
        features = np.full((len(pictures), self.identity.dimension), np.nan, np.float32)
        if sound:
            with self._device:
                features[sound] = self._model.encode_images(np.stack([prepared[index] for index in sound]))
        return EmbeddedBatch(features, errors)

    def embed_texts(self, texts: Sequence[str]) -> EmbeddedBatch:
        """Features of texts; longer ones are cut to the model's context."""
        with self._device:
            return EmbeddedBatch(self._model.encode_texts(texts))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


class RemoteModel:
    """A running embedder at "host:port". Raises Failure."""

    def __init__(self, address: str, access: Access, batch_items: int) -> None:
        self._address = address
        self._channel = open_channel(address, tls=access.tls)
        self._stub = EmbedderServiceStub(self._channel)
        self._metadata = metadata(access.api_key)
        try:
            info = self._call(self._stub.GetEmbedderInfo, pb.GetEmbedderInfoRequest())
        except Failure:
            self._channel.close()
            raise
        limits = info.limits
        self._message_bytes = (
            min(limits.max_message_bytes or MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES) - _OVERHEAD
        )
        self.identity = identity_of(info.model)
        self.batch_items = min(batch_items, limits.max_batch_items or batch_items)

    def embed_images(self, pictures: Sequence[bytes]) -> EmbeddedBatch:
        """Features of encoded pictures, in as many calls as their bytes need."""
        features = np.full((len(pictures), self.identity.dimension), np.nan, np.float32)
        errors: dict[int, str] = {}
        for part in by_bytes([len(picture) for picture in pictures], self._message_bytes):
            if len(part) == 1 and len(pictures[part[0]]) > self._message_bytes:
                errors[part[0]] = (
                    f"the picture has {len(pictures[part[0]])} bytes, more than one message holds"
                )
                continue
            request = pb.EmbedImagesRequest(
                images=[pb.ImageInput(content=pictures[index]) for index in part],
                priority=pb.BULK,
                expected_model_fingerprint=self.identity.fingerprint,
            )
            answer = self._call(self._stub.EmbedImages, request)
            features[part] = self._rows(answer, len(part))
            errors |= {part[error.index]: error.message for error in answer.errors}
        return EmbeddedBatch(features, errors)

    def embed_texts(self, texts: Sequence[str]) -> EmbeddedBatch:
        """Features of texts."""
        request = pb.EmbedTextsRequest(
            texts=texts, priority=pb.BULK, expected_model_fingerprint=self.identity.fingerprint
        )
        answer = self._call(self._stub.EmbedTexts, request)
        return EmbeddedBatch(
            self._rows(answer, len(texts)), {error.index: error.message for error in answer.errors}
        )

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _rows(self, answer: Answer, count: int) -> np.ndarray:
        try:
            rows = unpack(answer.features, dimension=self.identity.dimension, finite=False)
        except VectorError as error:
            raise Failure(
                f"the embedder at {self._address} sent features that cannot be read: {error}"
            ) from error
        if len(rows) != count:
            raise Failure(
                f"the embedder at {self._address} answered {len(rows)} rows to {count} items; update it"
            )
        return rows

    def _call(self, method: Callable[..., Got], request: object) -> Got:
        """Call, and again while the embedder has too much to do."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return method(request, timeout=_TIMEOUT_S, metadata=self._metadata, wait_for_ready=False)
            except grpc.RpcError as failed:
                error: CirError = from_rpc_error(failed, address=self._address, timeout=_TIMEOUT_S)
                if not isinstance(error, Overloaded) or time.monotonic() > deadline:
                    raise Failure(f"the embedder at {self._address} failed: {error.message}") from error
                time.sleep(min(5.0, error.retry_after or 0.5))


def by_bytes(sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Indices in order, in parts of at most `limit` bytes together; what is larger alone is a part of its
    own."""
    parts: list[list[int]] = []
    room = 0
    for index, size in enumerate(sizes):
        if not parts or size > room:
            parts.append([])
            room = limit
        parts[-1].append(index)
        room -= size
    return parts
