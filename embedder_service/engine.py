"""Pictures and texts to features: decode, preprocess, batch, cache. Knows nothing of gRPC."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cir.common.v1 import errors_pb2 as pb
from embedder_service.admission import ItemBudget
from embedder_service.batch_queue import BlockResult, Features, Tower
from embedder_service.batcher import Batcher
from embedder_service.decode import Decoder
from embedder_service.fair_share import Priority
from embedder_service.lru_cache import FeatureCache
from embedder_service.preprocess import Preprocessor
from embedder_service.work_pool import WorkPool
from service_runtime.errors import ServiceError
from service_runtime.logging import get_logger

Pixels = npt.NDArray[np.uint8]
Tokens = npt.NDArray[np.int64]


class Model(Protocol):
    """What the engine needs of a model (see model.py)."""

    dimension: int

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Return int64 tokens of shape (n, context)."""

    def encode_images(self, pixels: Pixels) -> Features:
        """Return float32 (n, d) of uint8 (n, size, size, 3)."""

    def encode_tokens(self, tokens: Tokens) -> Features:
        """Return float32 (n, d) of int64 (n, context)."""


@dataclass(slots=True)
class Embedded:
    """The answer to one call: float32 (n, d) raw features, NaN in the rows that `errors` names.

    Seconds are those of the slowest item in each stage.
    """

    features: Features
    errors: dict[int, Exception] = field(default_factory=dict)
    decode_seconds: float = 0.0
    queue_seconds: float = 0.0
    forward_seconds: float = 0.0
    cache_hits: int = 0

    def record(self, indices: Sequence[int], result: BlockResult) -> None:
        """Take over the rows of a block that belong at `indices`."""
        self.features[indices] = result.features
        for row, error in result.errors.items():
            get_logger().error("forward pass failed on one item", exc_info=error)
            self.errors[indices[row]] = error
        self.queue_seconds = max(self.queue_seconds, result.queue_seconds)
        self.forward_seconds = max(self.forward_seconds, result.forward_seconds)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A picture ready for the device, or its features if they were known."""

    pixels: Pixels | None
    known: Features | None
    key: bytes
    seconds: float


class Engine:
    """Everything between a request and the model. For one event loop; `start` first, `close` last."""

    def __init__(
        self,
        model: Model,
        decoder: Decoder,
        preprocessor: Preprocessor,
        *,
        max_batch: int,
        shared_bulk_batch: int,
        max_queue_items: int,
        prepare_threads: int,
        image_cache_items: int,
        text_cache_items: int,
    ) -> None:
        self._model = model
        self._decoder = decoder
        self._preprocessor = preprocessor
        self.batcher = Batcher(
            {Tower.IMAGE: model.encode_images, Tower.TEXT: model.encode_tokens},
            dimension=model.dimension,
            max_batch=max_batch,
            shared_bulk_batch=shared_bulk_batch,
        )
        self.budget = ItemBudget(max_queue_items)
        self.image_cache = FeatureCache(image_cache_items)
        self.text_cache = FeatureCache(text_cache_items)
        self._pool = WorkPool(prepare_threads)

    def start(self) -> None:
        """Start the device thread on the running event loop."""
        self.batcher.start()

    async def close(self) -> None:
        """Finish what was accepted and end all threads."""
        await self.batcher.close()
        await asyncio.to_thread(self._pool.close)

    async def embed_images(
        self,
        images: Sequence[bytes | Pixels | ServiceError],
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float = float("inf"),
    ) -> Embedded:
        """Embed encoded pictures (bytes) and preprocessed ones (uint8 (size, size, 3)).

        A ServiceError stands for an item that was refused before; it goes to `errors` as it is. `deadline`
        is on `time.monotonic`. Raises ServiceError when the call as a whole fails: OVERLOADED, DEADLINE,
        NOT_READY.
        """
        embedded = self._empty(len(images))
        encoded: dict[int, bytes] = {}
        tensors: dict[int, Pixels] = {}
        for index, image in enumerate(images):
            if isinstance(image, ServiceError):
                embedded.errors[index] = image
            elif not isinstance(image, bytes):
                tensors[index] = image
            else:
                try:
                    self._decoder.check_bytes(len(image))
                except ServiceError as error:
                    embedded.errors[index] = error
                else:
                    encoded[index] = image
        with self.budget.hold(len(encoded) + len(tensors), priority):
            try:
                async with asyncio.TaskGroup() as group:
                    if tensors:
                        group.create_task(self._embed_tensors(embedded, tensors, priority, deadline))
                    for index, content in encoded.items():
                        group.create_task(self._embed_encoded(embedded, index, content, priority, deadline))
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from failures
        return embedded

    async def embed_texts(
        self,
        texts: Sequence[str | ServiceError],
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float = float("inf"),
    ) -> Embedded:
        """Embed texts; otherwise as `embed_images`."""
        embedded = self._empty(len(texts))
        unknown: dict[int, str] = {}
        for index, text in enumerate(texts):
            if isinstance(text, ServiceError):
                embedded.errors[index] = text
            elif (known := self.text_cache.get(text)) is not None:
                embedded.features[index] = known
                embedded.cache_hits += 1
            else:
                unknown[index] = text
        if not unknown:
            return embedded
        with self.budget.hold(len(unknown), priority):
            started = time.monotonic()
            tokens = await self._pool.run(priority, partial(self._model.tokenize, list(unknown.values())))
            embedded.decode_seconds = time.monotonic() - started
            result = await self.batcher.submit(Tower.TEXT, tokens, priority=priority, deadline=deadline)
        embedded.record(list(unknown), result)
        for row, text in enumerate(unknown.values()):
            if row not in result.errors:
                self.text_cache.put(text, result.features[row])
        return embedded

    async def _embed_tensors(
        self, embedded: Embedded, tensors: dict[int, Pixels], priority: Priority, deadline: float
    ) -> None:
        rows = np.stack(list(tensors.values()))
        result = await self.batcher.submit(Tower.IMAGE, rows, priority=priority, deadline=deadline)
        embedded.record(list(tensors), result)

    async def _embed_encoded(
        self, embedded: Embedded, index: int, content: bytes, priority: Priority, deadline: float
    ) -> None:
        try:
            prepared = await self._pool.run(priority, partial(self._prepare, content, deadline))
        except ServiceError as error:
            if error.reason == pb.DEADLINE:
                raise
            embedded.errors[index] = error
            return
        embedded.decode_seconds = max(embedded.decode_seconds, prepared.seconds)
        if prepared.pixels is None:
            embedded.features[index] = prepared.known
            embedded.cache_hits += 1
            return
        result = await self.batcher.submit(
            Tower.IMAGE, prepared.pixels[None], priority=priority, deadline=deadline
        )
        embedded.record([index], result)
        if not result.errors:
            self.image_cache.put(prepared.key, result.features[0])

    def _prepare(self, content: bytes, deadline: float) -> _Prepared:
        """Decode and preprocess one picture, on a thread of the pool."""
        started = time.monotonic()
        if started >= deadline:
            raise ServiceError(pb.DEADLINE, "the call's time ran out before its pictures were decoded")
        key = b""
        if self.image_cache.enabled:
            key = hashlib.blake2b(content, digest_size=16).digest()
            known = self.image_cache.get(key)
            if known is not None:
                return _Prepared(None, known, key, time.monotonic() - started)
        pixels = self._preprocessor(self._decoder(content))
        return _Prepared(pixels, None, key, time.monotonic() - started)

    def _empty(self, items: int) -> Embedded:
        return Embedded(np.full((items, self._model.dimension), np.nan, np.float32))
