"""Backends of `cir features extract`: the embedder's own code in this process, or a running embedder."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from cir.channel import MAX_MESSAGE_BYTES, metadata, open_async_channel
from cir.common.v1.model_pb2 import ModelInfo
from cir.embedder.v1 import embedder_pb2 as pb
from cir.embedder_client import EmbedderClient
from cir.errors import CirError
from cir.images.decode import ImageError
from cir.models import model_facts
from cir.prompts import parse_template
from cir.retry import BUSY, RetryPolicy
from cir_cli.errors import Failure
from cir_cli.options import Access
from combiner_service.combiner import Float32
from combiner_training.extract import EmbeddedBatch, ModelIdentity
from embedder_service.engine import PromptModel
from embedder_service.images.preprocess import prepare_with
from embedder_service.joint import load_joint_encoders
from embedder_service.loading import load_served
from embedder_service.settings import EmbedderSettings
from service_runtime.errors import StartupError
from service_runtime.image_reader import ImageBusyError, ImageReader

_TIMEOUT_S = 300.0
_PATIENCE_S = 120.0
# What a message holds next to the images.
_OVERHEAD = 64 * 1024

Got = TypeVar("Got")


def identity_of(info: ModelInfo) -> ModelIdentity:
    """A model's identity as a feature file keeps it."""
    return ModelIdentity(info.fingerprint, info.dimension, model_facts(info))


class LocalModel:
    """The frozen CLIP in this process, with the settings of an embedder.

    Raises:
        Failure: it cannot be used.
    """

    def __init__(self, settings: EmbedderSettings, batch_items: int) -> None:
        try:
            held = load_served(settings)
        except StartupError as error:
            raise Failure(str(error)) from error
        self._model = held.model
        self._reader = ImageReader(
            prepare_with(settings.decoder(held.preprocessor.size), held.preprocessor),
            settings.decode_budget,
            threads=settings.prepare_threads_used,
        )
        self._pool = ThreadPoolExecutor(settings.prepare_threads or None)
        # One pass at a time; decoding goes on next to it.
        self._device = threading.Lock()
        self.identity = identity_of(held.info)
        self.token_width = held.info.token_width
        self._joint = load_joint_encoders(held)
        self.batch_items = batch_items

    def embed_images(self, images: Sequence[bytes]) -> EmbeddedBatch:
        """Features of encoded images; one that cannot be read fails alone."""

        def prepare(content: bytes) -> np.ndarray | str:
            try:
                return self._reader.read(content)
            except (ImageError, ImageBusyError) as error:
                return str(error)

        prepared = list(self._pool.map(prepare, images))
        errors = {index: one for index, one in enumerate(prepared) if isinstance(one, str)}
        sound = [index for index in range(len(prepared)) if index not in errors]
        features = np.full((len(images), self.identity.dimension), np.nan, np.float32)
        if sound:
            with self._device:
                features[sound] = self._model.encode_images(np.stack([prepared[index] for index in sound]))
        return EmbeddedBatch(features, errors)

    def embed_queries(self, encoder: str, images: Sequence[bytes], texts: Sequence[str]) -> Float32:
        """Queries of encoded images with their texts by the joint encoder of a name.

        Raises:
            Failure: there is none of that name, or an image cannot be read.
        """
        if encoder not in self._joint.by_name:
            there = ", ".join(self._joint.by_name) or "none for this model"
            raise Failure(f"no joint encoder {encoder!r}; there are: {there}")
        try:
            pixels = np.stack(list(self._pool.map(self._reader.read, images)))
        except (ImageError, ImageBusyError) as error:
            raise Failure(f"{encoder} cannot read an image: {error}") from error
        parts = range(0, len(images), self.batch_items)
        with self._device:
            return np.concatenate(
                [
                    self._joint.by_name[encoder].encode(
                        pixels[start : start + self.batch_items], texts[start : start + self.batch_items]
                    )
                    for start in parts
                ]
            )

    def embed_texts(self, texts: Sequence[str]) -> EmbeddedBatch:
        """Features of texts; longer ones are cut to the model's context."""
        with self._device:
            return EmbeddedBatch(self._model.encode_texts(texts))

    def embed_prompts(self, template: str, texts: Sequence[str], words: Float32) -> Float32:
        """Raw features of sentences with a word embedding in each.

        Raises:
            Failure: the text tower takes none, or others.
        """
        model, width = self._model, self.token_width
        if not isinstance(model, PromptModel) or words.shape[1] != width:
            raise Failure(
                f"the text tower of {self.identity.facts['architecture']} takes "
                + (f"words of {width} values, not of {words.shape[1]}" if width else "no word embeddings")
            )
        prompts, _ = model.tokenize_prompts(parse_template(template), texts, words)
        parts = range(0, len(prompts), self.batch_items)
        with self._device:
            return np.concatenate(
                [model.encode_prompts(prompts[start : start + self.batch_items]) for start in parts]
            )

    def close(self) -> None:
        """End the threads and processes."""
        self._pool.shutdown()
        self._reader.close()


class RemoteModel:
    """A running embedder at "host:port".

    Its methods block and may be called from several threads; the calls run on one event loop in a thread of
    its own.

    Raises:
        Failure: it cannot be used.
    """

    def __init__(self, address: str, access: Access, batch_items: int) -> None:
        self._address = address
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="embedder calls", daemon=True)
        self._thread.start()
        try:
            self._client = self._wait(self._connect(address, access))
            info = self._wait(self._client.info(timeout=_TIMEOUT_S))
        except BaseException:
            self.close()
            raise
        limits = info.limits
        self._message_bytes = (
            min(limits.max_message_bytes or MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES) - _OVERHEAD
        )
        self.identity = identity_of(info.model)
        self.batch_items = min(batch_items, limits.max_batch_items or batch_items)

    def embed_images(self, images: Sequence[bytes]) -> EmbeddedBatch:
        """Return features of encoded images, in as many calls as their bytes need."""
        features = np.full((len(images), self.identity.dimension), np.nan, np.float32)
        errors: dict[int, str] = {}
        for part in by_bytes([len(image) for image in images], self._message_bytes):
            if len(part) == 1 and len(images[part[0]]) > self._message_bytes:
                errors[part[0]] = f"the image has {len(images[part[0]])} bytes, more than one message holds"
                continue
            answer = self._wait(
                self._client.embed_images(
                    [images[index] for index in part],
                    fingerprint=self.identity.fingerprint,
                    dimension=self.identity.dimension,
                    timeout=_TIMEOUT_S,
                    priority=pb.PRIORITY_BULK,
                )
            )
            features[part] = answer.features
            errors |= {part[index]: error.message for index, error in answer.errors.items()}
        return EmbeddedBatch(features, errors)

    def embed_texts(self, texts: Sequence[str]) -> EmbeddedBatch:
        """Return features of texts."""
        answer = self._wait(
            self._client.embed_texts(
                texts,
                fingerprint=self.identity.fingerprint,
                dimension=self.identity.dimension,
                timeout=_TIMEOUT_S,
                priority=pb.PRIORITY_BULK,
            )
        )
        errors = {index: error.message for index, error in answer.errors.items()}
        return EmbeddedBatch(answer.features, errors)

    def embed_prompts(self, template: str, texts: Sequence[str], words: Float32) -> Float32:
        """Raw features of sentences with a word embedding in each, in as many calls as they need."""
        parts = []
        for start in range(0, len(texts), self.batch_items):
            part = slice(start, start + self.batch_items)
            answer = self._wait(
                self._client.embed_prompts(
                    template,
                    texts[part],
                    words[part],
                    fingerprint=self.identity.fingerprint,
                    dimension=self.identity.dimension,
                    timeout=_TIMEOUT_S,
                    priority=pb.PRIORITY_BULK,
                )
            )
            for error in answer.errors.values():
                raise Failure(f"the embedder at {self._address} refused a sentence: {error.message}")
            parts.append(answer.features)
        return np.concatenate(parts)

    def close(self) -> None:
        """Close the connection and end the thread."""
        if channel := getattr(self, "_channel", None):
            asyncio.run_coroutine_threadsafe(channel.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _connect(self, address: str, access: Access) -> EmbedderClient:
        sent = metadata(access.api_key)
        self._channel = open_async_channel(address, tls=access.tls)
        retry = RetryPolicy(_PATIENCE_S, BUSY)
        return EmbedderClient(self._channel, address, metadata=lambda: sent, retry=retry)

    def _wait(self, call: Coroutine[Any, Any, Got]) -> Got:
        try:
            return asyncio.run_coroutine_threadsafe(call, self._loop).result()
        except CirError as error:
            raise Failure(f"the embedder at {self._address} failed: {error.message}") from error


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
