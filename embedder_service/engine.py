"""Images and texts to features: preprocess, batch, cache. Independent of gRPC and of torch."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from cachetools import LRUCache

from cir.common.v1 import errors_pb2 as pb
from cir.images.decode import ImageError
from cir.images.header import Header
from cir.prompts import Template
from embedder_service.batching.admission import Admission
from embedder_service.batching.batcher import Batcher, Forward, Launch, ShareDevice
from embedder_service.batching.jobs import (
    Caller,
    DropCause,
    Features,
    Job,
    Observer,
    Priority,
    Row,
    Rows,
    Tokens,
    Tower,
)
from embedder_service.batching.preprocess_pool import PreprocessPool
from embedder_service.batching.scheduling import RecentActivity
from embedder_service.feature_cache import FeatureCache
from embedder_service.images.preprocess import Pixels
from embedder_service.prompts import Prompts, Words

if TYPE_CHECKING:
    from embedder_service.joint import JointEncoders
from service_runtime.errors import ServiceError
from service_runtime.image_reader import ImageBusyError, refusal_of
from service_runtime.logging import get_logger

# Texts tokenised in one task: one thread at a time uses the tokenizer, and others wait for it.
_TEXTS_PER_TASK = 16


class Model(Protocol):
    """A model as the engine needs it (see model/clip.py)."""

    dimension: int

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Return int64 tokens of shape (n, context)."""

    def long_texts(self, texts: Sequence[str], tokens: Tokens) -> Mapping[int, int]:
        """Return the number of tokens of each text that was cut to these `tokens`, by its place."""

    def encode_images(self, pixels: Pixels) -> Features:
        """Return float32 (n, d) of uint8 (n, size, size, 3)."""

    def encode_tokens(self, tokens: Tokens) -> Features:
        """Return float32 (n, d) of int64 (n, context)."""


@runtime_checkable
class LaunchingModel(Protocol):
    """A model that can begin a pass before the previous one has come back (see model/cuda.py)."""

    def launch_images(self, rows: Sequence[Row]) -> Callable[[], Features]:
        """Begin a pass of uint8 (size, size, 3) images; the result waits for float32 (n, d)."""

    def launch_tokens(self, rows: Sequence[Row]) -> Callable[[], Features]:
        """Begin a pass of int64 (context,) texts; the result waits for float32 (n, d)."""

    def launch_prompts(self, rows: Sequence[Row]) -> Callable[[], Features]:
        """Begin a pass of sentences; the result waits for float32 (n, d)."""


@runtime_checkable
class PromptModel(Protocol):
    """A model whose text tower takes word embeddings among its tokens, where `token_width` is not 0."""

    token_width: int

    def tokenize_prompts(
        self, template: Template, texts: Sequence[str], words: Words
    ) -> tuple[Prompts, dict[int, int]]:
        """Return sentences, and the tokens of texts that were cut (see prompts.py)."""

    def encode_prompts(self, prompts: Prompts) -> Features:
        """Return float32 (n, d) of sentences."""


class Reader(Protocol):
    """From image files to pixels, as the engine needs it (see service_runtime/image_reader.py)."""

    def check_bytes(self, size: int) -> None:
        """Raise ImageError for an image of too many bytes, or of none."""

    def check(self, content: bytes) -> Header:
        """Return an image's headers; raises ImageError where they say that it cannot be read."""

    def is_cheap(self, header: Header) -> bool:
        """Return True when reading the image takes a fraction of a second for certain."""

    def read(self, content: bytes, header: Header) -> Pixels:
        """Return uint8 (size, size, 3); raises ImageError or ImageBusyError."""

    def close(self) -> None:
        """End what the reader has started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Sizes of the engine's parts.

    A forward pass has at most `max_batch` rows, and at most `shared_bulk_batch` bulk rows while interactive
    calls are active; `lanes` passes run in parallel. Calls hold at most `max_queue_items` items, and
    interactive calls wait for at most `max_wait_seconds` (0 sets no bound; see batching/admission.py).
    `preprocess_threads` decode and tokenise; `costly_threads` wait for images that are costly to decode. The
    caches keep the features of `image_cache_items` images and `text_cache_items` texts; 0 keeps none.
    """

    max_batch: int
    shared_bulk_batch: int
    lanes: int = 1
    max_queue_items: int
    max_wait_seconds: float = 0.0
    preprocess_threads: int
    costly_threads: int = 1
    image_cache_items: int
    text_cache_items: int


@dataclass(slots=True)
class EmbedResult:
    """The answer to one call: float32 (n, d) raw features, NaN in the rows that `errors` names.

    `cuts` has the number of tokens of each text that the model read only the beginning of, by its row.
    Seconds are those of the slowest item in each stage.
    """

    features: Features
    errors: dict[int, Exception] = field(default_factory=dict)
    cuts: dict[int, int] = field(default_factory=dict)
    decode_seconds: float = 0.0
    queue_seconds: float = 0.0
    forward_seconds: float = 0.0
    cache_hits: int = 0

    def record(self, job: Job) -> None:
        """Take over a job's errors and timings; its rows are in `features` already."""
        for error in job.errors.values():
            if not isinstance(error, ServiceError):
                get_logger().error("forward pass failed on one item", exc_info=error)
        self.errors.update(job.errors)
        self.decode_seconds = job.decode_seconds
        self.queue_seconds = job.queue_seconds
        self.forward_seconds = job.forward_seconds


class Engine:
    """Everything between a request and the model. For one event loop; `start` first, `close` last.

    `reader` is closed with the engine. `share_device` is called before each forward pass with the number of
    passes that share the device.
    """

    def __init__(
        self,
        model: Model,
        reader: Reader,
        options: EngineOptions,
        *,
        share_device: ShareDevice | None = None,
        observer: Observer | None = None,
        joint: JointEncoders | None = None,
    ) -> None:
        self._model = model
        self._joint = joint
        self._reader = reader
        self._observer = observer or Observer()
        activity = RecentActivity()
        launches: dict[Tower, Launch] | None = (
            {
                Tower.IMAGE: model.launch_images,
                Tower.TEXT: model.launch_tokens,
                Tower.PROMPT: model.launch_prompts,
            }
            if isinstance(model, LaunchingModel)
            else None
        )
        forwards: dict[Tower, Forward] = {Tower.IMAGE: model.encode_images, Tower.TEXT: model.encode_tokens}
        self._prompts = model if isinstance(model, PromptModel) and model.token_width else None
        if self._prompts is not None:
            forwards[Tower.PROMPT] = self._prompts.encode_prompts
        if joint is not None:
            forwards[Tower.JOINT] = joint.encode
            if launches is not None:
                launches[Tower.JOINT] = partial(_launch_joint, joint)
        self.batcher = Batcher(
            forwards,
            dimension=model.dimension,
            max_batch=options.max_batch,
            shared_bulk_batch=options.shared_bulk_batch,
            launches=launches,
            lanes=options.lanes,
            share_device=share_device,
            activity=activity,
            observer=self._observer,
        )
        self.admission = Admission(options.max_queue_items, max_wait_seconds=options.max_wait_seconds)
        self.image_cache = FeatureCache(options.image_cache_items)
        self.text_cache = FeatureCache(options.text_cache_items)
        # Tokens of the texts among those that were cut. Asked and filled together with the cache and as
        # large, so that a text leaves it no sooner.
        self._cut_texts: LRUCache[str, int] = LRUCache(options.text_cache_items)
        self.pool = PreprocessPool(options.preprocess_threads, activity)
        # A costly image keeps no other from being decoded.
        self.costly_pool = PreprocessPool(options.costly_threads, activity)

    def start(self) -> None:
        """Start the device threads on the running event loop."""
        self.batcher.start()

    async def close(self) -> None:
        """Finish what was accepted and end all threads and processes."""
        await self.batcher.close()
        await asyncio.to_thread(self.pool.close)
        await asyncio.to_thread(self.costly_pool.close)
        self._reader.close()

    async def embed_images(
        self,
        images: Sequence[bytes | Pixels | ServiceError],
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float = float("inf"),
        caller: Caller = None,
    ) -> EmbedResult:
        """Embed encoded images (bytes) and preprocessed ones (uint8 (size, size, 3)).

        A ServiceError stands for an item that was refused before; it goes to `errors` as it is. `deadline`
        is on `time.monotonic`. Calls with the same `caller` (the batches of a stream) share its turns.

        Raises:
            ServiceError: the call as a whole fails: OVERLOADED, DEADLINE, NOT_READY, MODEL_FAILED.
        """
        result = self._empty(len(images))
        encoded: list[tuple[int, bytes]] = []
        places: list[int] = []
        tensors: list[Pixels] = []
        for index, image in enumerate(images):
            if isinstance(image, ServiceError):
                self._refuse(result, Tower.IMAGE, index, image)
            elif not isinstance(image, bytes):
                places.append(index)
                tensors.append(image)
            else:
                try:
                    self._reader.check_bytes(len(image))
                except ImageError as error:
                    self._refuse(result, Tower.IMAGE, index, refusal_of(error))
                else:
                    encoded.append((index, image))
        rows = len(encoded) + len(tensors)
        if rows == 0:
            return result
        with self.admission.hold(rows, priority, Tower.IMAGE):
            job = self.batcher.open(
                Tower.IMAGE, result.features, rows, caller=caller, priority=priority, deadline=deadline
            )
            keys: dict[int, bytes] = {}
            hits: list[int] = []
            if tensors:
                self.batcher.put(job, tensors, places)
            if encoded:
                runs = [partial(self._preprocess_image, job, keys, hits, *item) for item in encoded]
                self.pool.submit(job.caller, priority, runs, party=job.party)
            result.record(await job.future)
        result.cache_hits = len(hits)
        self.image_cache.put_all(
            {key: result.features[index] for index, key in keys.items() if index not in result.errors}
        )
        return result

    async def embed_texts(
        self,
        texts: Sequence[str | ServiceError],
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float = float("inf"),
        caller: Caller = None,
    ) -> EmbedResult:
        """Embed texts; otherwise like `embed_images`."""
        result = self._empty(len(texts))
        missing: list[tuple[int, str]] = []
        for index, text in enumerate(texts):
            if isinstance(text, ServiceError):
                self._refuse(result, Tower.TEXT, index, text)
            elif (known := self.text_cache.get(text)) is not None:
                result.features[index] = known
                result.cache_hits += 1
                if tokens := self._cut_texts.get(text):
                    result.cuts[index] = tokens
            else:
                missing.append((index, text))
        if result.cache_hits:
            self._observer.embedded(Tower.TEXT, result.cache_hits)
        if not missing:
            return result
        with self.admission.hold(len(missing), priority, Tower.TEXT):
            job = self.batcher.open(
                Tower.TEXT,
                result.features,
                len(missing),
                caller=caller,
                priority=priority,
                deadline=deadline,
            )
            runs = [
                partial(self._tokenize, job, result.cuts, missing[start : start + _TEXTS_PER_TASK])
                for start in range(0, len(missing), _TEXTS_PER_TASK)
            ]
            self.pool.submit(job.caller, priority, runs, party=job.party)
            result.record(await job.future)
        embedded = {text: index for index, text in missing if index not in result.errors}
        self.text_cache.put_all({text: result.features[index] for text, index in embedded.items()})
        if self.text_cache.enabled:
            self._cut_texts.update(
                {text: result.cuts[index] for text, index in embedded.items() if index in result.cuts}
            )
        return result

    async def embed_prompts(
        self,
        template: Template,
        texts: Sequence[str | ServiceError],
        words: Words,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float = float("inf"),
    ) -> EmbedResult:
        """Embed sentences of a text and a word embedding, (n, token width), each; else like `embed_texts`.

        Nothing is looked up in a cache: a word embedding is hardly seen twice.
        """
        result = self._empty(len(texts))
        sound = [(index, text) for index, text in enumerate(texts) if isinstance(text, str)]
        for index, text in enumerate(texts):
            if isinstance(text, ServiceError):
                self._refuse(result, Tower.PROMPT, index, text)
        if not sound:
            return result
        with self.admission.hold(len(sound), priority, Tower.PROMPT):
            job = self.batcher.open(
                Tower.PROMPT, result.features, len(sound), priority=priority, deadline=deadline
            )
            runs = [
                partial(
                    self._tokenize_prompts,
                    job,
                    result.cuts,
                    template,
                    sound[start : start + _TEXTS_PER_TASK],
                    words,
                )
                for start in range(0, len(sound), _TEXTS_PER_TASK)
            ]
            self.pool.submit(job.caller, priority, runs, party=job.party)
            result.record(await job.future)
        return result

    async def embed_queries(
        self,
        encoder: str,
        pairs: Sequence[tuple[bytes | Pixels, str] | ServiceError],
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float = float("inf"),
    ) -> EmbedResult:
        """Embed images with their texts by the joint encoder of a name; otherwise like `embed_images`."""
        result = self._empty(len(pairs))
        sound: list[tuple[int, bytes | Pixels, str]] = []
        for index, pair in enumerate(pairs):
            if isinstance(pair, ServiceError):
                self._refuse(result, Tower.JOINT, index, pair)
                continue
            image, text = pair
            try:
                if isinstance(image, bytes):
                    self._reader.check_bytes(len(image))
            except ImageError as error:
                self._refuse(result, Tower.JOINT, index, refusal_of(error))
            else:
                sound.append((index, image, text))
        if not sound:
            return result
        assert self._joint is not None  # noqa: S101  # names of encoders are checked before
        with self.admission.hold(len(sound), priority, Tower.JOINT):
            job = self.batcher.open(
                Tower.JOINT, result.features, len(sound), priority=priority, deadline=deadline
            )
            runs = []
            for index, image, text in sound:
                row = partial(self._joint.rows, encoder, text=text)
                if isinstance(image, bytes):
                    runs.append(partial(self._check_image, job, index, image, row))
                else:
                    self.batcher.put(job, row(image), (index,))
            if runs:
                self.pool.submit(job.caller, priority, runs, party=job.party)
            result.record(await job.future)
        return result

    def _preprocess_image(
        self, job: Job, keys: dict[int, bytes], hits: list[int], index: int, content: bytes
    ) -> None:
        """Answer one image from the cache, or have it decoded; on a thread of the pool."""
        if not self._wanted(job, 1):
            return
        try:
            if self.image_cache.enabled:
                key = hashlib.blake2b(content, digest_size=16).digest()
                known = self.image_cache.get(key)
                if known is not None:
                    hits.append(index)
                    self.batcher.answer(job, index, known)
                    return
                keys[index] = key
        except BaseException as error:
            # Whatever was raised concerns this item only, and a caller waits for it.
            self.batcher.fail_row(job, index, _as_exception(error))
            return
        self._check_image(job, index, content, _alone)

    def _check_image(self, job: Job, index: int, content: bytes, row: Callable[[Pixels], Rows]) -> None:
        """Look at an image's headers and have it decoded; `row` makes of its pixels what is queued."""
        if not self._wanted(job, 1):
            return
        try:
            header = self._reader.check(content)
            if not self._reader.is_cheap(header):
                run = partial(self._decode_image, job, index, content, header, row)
                self.costly_pool.submit(job.caller, job.priority, [run], party=job.party)
                return
        except BaseException as error:
            # As above.
            self.batcher.fail_row(job, index, _as_exception(error))
            return
        self._decode_image(job, index, content, header, row)

    def _decode_image(
        self, job: Job, index: int, content: bytes, header: Header, row: Callable[[Pixels], Rows]
    ) -> None:
        """Decode and preprocess one image and queue it, on a thread of either pool."""
        if not self._wanted(job, 1):
            return
        started = time.monotonic()
        try:
            pixels = self._reader.read(content, header)
        except BaseException as error:
            # As above.
            self.batcher.fail_row(job, index, _as_exception(error))
            return
        seconds = time.monotonic() - started
        self._observer.prepared(job.tower, 1, seconds)
        self.batcher.put(job, row(pixels), (index,), seconds=seconds)

    def _tokenize(self, job: Job, cuts: dict[int, int], texts: Sequence[tuple[int, str]]) -> None:
        """Tokenise a few texts and queue them, on a thread of the pool."""
        if not self._wanted(job, len(texts)):
            return
        started = time.monotonic()
        try:
            contents = [text for _, text in texts]
            tokens = self._model.tokenize(contents)
            long_texts = self._model.long_texts(contents, tokens)
        except BaseException as error:
            # Retried one at a time, so that a text that cannot be tokenised fails alone.
            if len(texts) == 1:
                self.batcher.fail_row(job, texts[0][0], _as_exception(error))
            else:
                for text in texts:
                    self._tokenize(job, cuts, [text])
            return
        cuts.update({texts[place][0]: count for place, count in long_texts.items()})
        seconds = time.monotonic() - started
        self._observer.prepared(Tower.TEXT, len(texts), seconds)
        self.batcher.put(job, tokens, [index for index, _ in texts], seconds=seconds)

    def _tokenize_prompts(
        self,
        job: Job,
        cuts: dict[int, int],
        template: Template,
        texts: Sequence[tuple[int, str]],
        words: Words,
    ) -> None:
        """Tokenise a few sentences and queue them, on a thread of the pool."""
        if not self._wanted(job, len(texts)):
            return
        assert self._prompts is not None  # noqa: S101  # calls are refused where it is
        started = time.monotonic()
        places = [index for index, _ in texts]
        try:
            contents = [text for _, text in texts]
            prompts, long_texts = self._prompts.tokenize_prompts(template, contents, words[places])
        except BaseException as error:
            # As in `_tokenize`.
            if len(texts) == 1:
                self.batcher.fail_row(job, places[0], _as_exception(error))
            else:
                for text in texts:
                    self._tokenize_prompts(job, cuts, template, [text], words)
            return
        cuts.update({places[place]: count for place, count in long_texts.items()})
        seconds = time.monotonic() - started
        self._observer.prepared(Tower.PROMPT, len(texts), seconds)
        self.batcher.put(job, prompts, places, seconds=seconds)

    def _wanted(self, job: Job, items: int) -> bool:
        """Return True while items are still waited for; fail the call if its time has run out."""
        if job.abandoned:
            self._observer.dropped(job.tower, DropCause.CANCELLED, items)
            return False
        if time.monotonic() < job.deadline:
            return True
        self._observer.dropped(job.tower, DropCause.EXPIRED, items)
        self.batcher.fail(
            job,
            ServiceError(
                pb.DEADLINE,
                "the call's time ran out before its items were prepared; send it with a longer deadline",
            ),
        )
        return False

    def _refuse(self, result: EmbedResult, tower: Tower, index: int, error: ServiceError) -> None:
        result.errors[index] = error
        self._observer.item_failed(tower, error)

    def _empty(self, items: int) -> EmbedResult:
        return EmbedResult(np.full((items, self._model.dimension), np.nan, np.float32))


def _alone(pixels: Pixels) -> Rows:
    return (pixels,)


def _launch_joint(joint: JointEncoders, rows: Sequence[Row]) -> Callable[[], Features]:
    queries = joint.encode(np.stack(list(rows)))
    return lambda: queries


def _as_exception(error: BaseException) -> Exception:
    if isinstance(error, ImageError | ImageBusyError):
        return refusal_of(error)
    return error if isinstance(error, Exception) else RuntimeError(f"the thread was asked to end: {error!r}")
