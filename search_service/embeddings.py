"""Embeddings for searches: identical ones are asked for once (single flight), and texts are remembered."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

import grpc
import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from cir.common.v1 import errors_pb2 as errors
from search_service.embedder_client import EmbedderClient
from search_service.metrics import SearchMetrics
from search_service.query import TextCut, Vector
from service_runtime.auth import current_caller
from service_runtime.errors import ServiceError
from service_runtime.fair_room import FairRoom

# Texts that are asked of the embedder at a time, and how many of them an image stands for. Enough for full
# batches; what waits does so here, where callers are known and take turns.
ROOM = 192
_IMAGE_UNITS = 8

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
Content = TypeVar("Content")


@dataclass(slots=True, eq=False)
class _Flight(Generic[Key, Value]):
    """Work under way for some keys, and how many callers wait for it."""

    keys: Sequence[Key]
    task: asyncio.Task[Mapping[Key, Value]]
    waiters: int = 0


class SingleFlight(Generic[Key, Value]):
    """Embeddings under way, by key.

    A flight belongs to no caller: one that is cancelled or runs out of time leaves it to the others, and the
    last one to leave cancels it. Nothing is kept once a flight has ended, errors included.
    """

    def __init__(self) -> None:
        self._by_key: dict[Key, _Flight[Key, Value]] = {}

    async def get(
        self,
        keys: Sequence[Key],
        fetch: Callable[[Sequence[Key]], Coroutine[Any, Any, Mapping[Key, Value]]],
        *,
        only_own: Callable[[BaseException], bool] = lambda _: False,
    ) -> tuple[dict[Key, Value], int]:
        """Values by key, and for how many keys a flight of another caller was shared.

        `fetch` is called once, with the keys that are not under way. What it raises is raised to everybody
        who waits, unless `only_own` says that it may be about the keys of the caller who began: then the
        others fetch theirs alone.
        """
        wanted = list(dict.fromkeys(keys))
        new = [key for key in wanted if key not in self._by_key]
        own = self._begin(new, fetch) if new else None
        flights = {key: self._by_key[key] for key in wanted}
        await self._wait(set(flights.values()))
        values: dict[Key, Value] = {}
        alone: list[Key] = []
        for key, flight in flights.items():
            error = flight.task.exception()
            if error is None:
                values[key] = flight.task.result()[key]
            elif flight is not own and only_own(error):
                alone.append(key)
            else:
                raise error
        if alone:
            values.update(await fetch(alone))
        return values, len(wanted) - len(new)

    def _begin(
        self,
        keys: Sequence[Key],
        fetch: Callable[[Sequence[Key]], Coroutine[Any, Any, Mapping[Key, Value]]],
    ) -> _Flight[Key, Value]:
        flight = _Flight(keys, asyncio.get_running_loop().create_task(fetch(keys)))
        self._by_key.update(dict.fromkeys(keys, flight))
        flight.task.add_done_callback(lambda _: self._complete(flight))
        return flight

    async def _wait(self, flights: set[_Flight[Key, Value]]) -> None:
        """Until all have landed, one way or another."""
        for flight in flights:
            flight.waiters += 1
        try:
            await asyncio.wait([flight.task for flight in flights])
        finally:
            for flight in flights:
                flight.waiters -= 1
                if not flight.waiters and not flight.task.done():
                    flight.task.cancel()
                    self._forget(flight)  # at once: nobody may join a flight that is being cancelled

    def _complete(self, flight: _Flight[Key, Value]) -> None:
        self._forget(flight)
        if not flight.task.cancelled():
            flight.task.exception()  # looked at, so that one nobody waits for any more is not reported

    def _forget(self, flight: _Flight[Key, Value]) -> None:
        for key in flight.keys:
            if self._by_key.get(key) is flight:
                del self._by_key[key]


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedTexts:
    """Raw features (n, d), and the texts that were not read whole, by place."""

    features: NDArray[np.float32]
    cuts: Mapping[int, TextCut]


@dataclass(frozen=True, slots=True, eq=False)
class _Features:
    """Raw features (d,) of one text or image."""

    row: NDArray[np.float32]
    cut: TextCut | None = None


# Model fingerprint and SHA-256 of the text or image.
_Key = tuple[str, bytes]
_Row = _Features | errors.ItemError
_Fetch = Callable[[Sequence[_Key]], Coroutine[Any, Any, Mapping[_Key, _Row]]]


class Embeddings(Protocol):
    """Raw features of what queries name. Failures are `ServiceError`s that name the entry in `fields`."""

    async def texts(
        self, texts: Sequence[str], *, fields: Sequence[str], fingerprint: str, timeout: float
    ) -> EmbeddedTexts:
        """Raw features of texts."""

    async def images(
        self, images: Sequence[bytes], *, fields: Sequence[str], fingerprint: str, timeout: float
    ) -> NDArray[np.float32]:
        """Raw features (n, d) of encoded images."""

    async def sentence(
        self, template: str, text: str, word: Vector, *, fingerprint: str, dimension: int, timeout: float
    ) -> tuple[Vector, TextCut | None]:
        """Raw features (d,) of a sentence with a word embedding in it, and where it was cut."""

    async def query(
        self, encoder: str, image: bytes, text: str, *, fingerprint: str, dimension: int, timeout: float
    ) -> Vector:
        """Query (d,) of an image and a text by a joint encoder."""


class SharedEmbeddings:
    """Raw features from the embedder.

    Calls that want the same text or image of the same model at the same moment share one embedding,
    whichever of them goes away meanwhile. An embedding that nobody waits for any more is cancelled.
    The features of the `remembered_texts` texts used last are kept. Errors never are. Callers take turns at
    the embedder.
    """

    def __init__(
        self,
        embedder: EmbedderClient,
        metrics: SearchMetrics,
        *,
        longest_seconds: float,
        remembered_texts: int,
    ) -> None:
        """`longest_seconds` bounds a shared embedding, which outlives the call that began it."""
        self._embedder = embedder
        self._metrics = metrics
        self._longest = longest_seconds
        self._texts: SingleFlight[_Key, _Row] = SingleFlight()
        self._images: SingleFlight[_Key, _Row] = SingleFlight()
        self._room = FairRoom(ROOM)
        self._remembered: LRUCache[_Key, _Features] = LRUCache(remembered_texts)

    async def texts(
        self, texts: Sequence[str], *, fields: Sequence[str], fingerprint: str, timeout: float
    ) -> EmbeddedTexts:
        """Raw features of texts.

        Raises:
            ServiceError: the embedding failed; for a text that cannot be embedded it names its entry in
                `fields`.
        """
        keys = [_key(fingerprint, text.encode()) for text in texts]
        return _embedded_texts(keys, await self.text_rows(texts, fingerprint, timeout), fields)

    async def text_rows(self, texts: Sequence[str], fingerprint: str, timeout: float) -> Mapping[_Key, _Row]:
        """Features of texts, or why one has none, by key.

        Raises:
            ServiceError: the embedding failed as a whole.
        """
        keys = [_key(fingerprint, text.encode()) for text in texts]
        known = {key: row for key in keys if (row := self._remembered.get(key)) is not None}
        content = dict(zip(keys, texts, strict=True))

        async def fetch(missing: Sequence[_Key]) -> Mapping[_Key, _Row]:
            async with self._room.hold(current_caller(), len(missing)):
                batch = await self._embedder.try_embed_texts(
                    [content[key] for key in missing], fingerprint=fingerprint, timeout=self._longest
                )
            cuts = {index: TextCut(cut.tokens, cut.read_tokens) for index, cut in batch.cuts.items()}
            found = _by_key(missing, batch.features, list(batch.errors.values()), cuts)
            self._remember(found)
            return found

        missing = [key for key in keys if key not in known]
        found = await self._fetch("text", self._texts, missing, fetch, timeout, remembered=len(known))
        return {**known, **found}

    async def images(
        self, images: Sequence[bytes], *, fields: Sequence[str], fingerprint: str, timeout: float
    ) -> NDArray[np.float32]:
        """Raw features (n, d) of encoded images. Raises as `texts` does."""
        keys = [_key(fingerprint, image) for image in images]
        found = await self.image_rows(images, fingerprint, timeout)
        return np.stack([one.row for one in _embedded(keys, found, fields)])

    async def image_rows(
        self, images: Sequence[bytes], fingerprint: str, timeout: float
    ) -> Mapping[_Key, _Row]:
        """Features of images, as `text_rows`."""
        keys = [_key(fingerprint, image) for image in images]
        content = dict(zip(keys, images, strict=True))

        async def fetch(missing: Sequence[_Key]) -> Mapping[_Key, _Row]:
            async with self._room.hold(current_caller(), _IMAGE_UNITS * len(missing)):
                rows, problems = await self._embedder.try_embed_images(
                    [content[key] for key in missing], fingerprint=fingerprint, timeout=self._longest
                )
            return _by_key(missing, rows, problems)

        return await self._fetch("image", self._images, keys, fetch, timeout, remembered=0)

    async def sentence(
        self, template: str, text: str, word: Vector, *, fingerprint: str, dimension: int, timeout: float
    ) -> tuple[Vector, TextCut | None]:
        """Raw features (d,) of a sentence with a word embedding in it, and where it was cut; never shared.

        Raises:
            ServiceError: The embedding failed.
        """
        embedded = await self._embedder.embed_prompt(
            template, text, word, fingerprint=fingerprint, dimension=dimension, timeout=timeout
        )
        self._metrics.record_embeddings("sentence", embedder=1, shared=0, remembered=0)
        return embedded

    async def query(
        self, encoder: str, image: bytes, text: str, *, fingerprint: str, dimension: int, timeout: float
    ) -> Vector:
        """Query (d,) of an image and a text by a joint encoder; never shared.

        Raises:
            ServiceError: The embedding failed.
        """
        query = await self._embedder.embed_query(
            encoder, image, text, fingerprint=fingerprint, dimension=dimension, timeout=timeout
        )
        self._metrics.record_embeddings("query", embedder=1, shared=0, remembered=0)
        return query

    async def _fetch(
        self,
        kind: str,
        in_flight: SingleFlight[_Key, _Row],
        keys: Sequence[_Key],
        fetch: _Fetch,
        timeout: float,
        *,
        remembered: int,
    ) -> Mapping[_Key, _Row]:
        found: Mapping[_Key, _Row] = {}
        shared = 0
        if keys:
            try:
                async with asyncio.timeout(timeout):
                    found, shared = await in_flight.get(keys, fetch, only_own=_is_about_the_content)
            except TimeoutError as error:
                raise ServiceError(
                    errors.DEADLINE, "the embedder did not answer in the time left; allow more time"
                ) from error
        self._metrics.record_embeddings(
            kind, embedder=len(found) - shared, shared=shared, remembered=remembered
        )
        return found

    def _remember(self, rows: Mapping[_Key, _Row]) -> None:
        if not self._remembered.maxsize:
            return
        for key, row in rows.items():
            if isinstance(row, _Features):
                self._remembered[key] = row


class BatchEmbeddings:
    """Embeddings of a batch of queries, made together before the queries ask for them one by one."""

    def __init__(self, shared: SharedEmbeddings) -> None:
        self._shared = shared
        self._rows: dict[_Key, _Row] = {}
        self._failed: dict[_Key, ServiceError] = {}

    async def prepare(
        self, texts: Sequence[str], images: Sequence[bytes], *, fingerprint: str, timeout: float
    ) -> None:
        """Embed what queries of one model will ask for. What fails, fails when a query asks for it."""
        parts: list[tuple[Sequence[_Key], Coroutine[Any, Any, Mapping[_Key, _Row]]]] = []
        for part in batched(dict.fromkeys(texts), _size_of_text):
            keys = [_key(fingerprint, text.encode()) for text in part]
            parts.append((keys, self._shared.text_rows(part, fingerprint, timeout)))
        for some in batched(dict.fromkeys(images), len):
            keys = [_key(fingerprint, image) for image in some]
            parts.append((keys, self._shared.image_rows(some, fingerprint, timeout)))
        await asyncio.gather(*(self._take(keys, rows) for keys, rows in parts))

    async def texts(
        self, texts: Sequence[str], *, fields: Sequence[str], fingerprint: str, timeout: float
    ) -> EmbeddedTexts:
        """Raw features of texts. Raises as those of `SharedEmbeddings` do."""
        keys = [_key(fingerprint, text.encode()) for text in texts]
        if not self._are_there(keys):
            return await self._shared.texts(texts, fields=fields, fingerprint=fingerprint, timeout=timeout)
        return _embedded_texts(keys, self._rows, fields)

    async def images(
        self, images: Sequence[bytes], *, fields: Sequence[str], fingerprint: str, timeout: float
    ) -> NDArray[np.float32]:
        """Raw features (n, d) of encoded images. Raises as those of `SharedEmbeddings` do."""
        keys = [_key(fingerprint, image) for image in images]
        if not self._are_there(keys):
            return await self._shared.images(images, fields=fields, fingerprint=fingerprint, timeout=timeout)
        return np.stack([one.row for one in _embedded(keys, self._rows, fields)])

    async def sentence(
        self, template: str, text: str, word: Vector, *, fingerprint: str, dimension: int, timeout: float
    ) -> tuple[Vector, TextCut | None]:
        """Raw features (d,) of a sentence with a word embedding in it, and where it was cut."""
        return await self._shared.sentence(
            template, text, word, fingerprint=fingerprint, dimension=dimension, timeout=timeout
        )

    async def query(
        self, encoder: str, image: bytes, text: str, *, fingerprint: str, dimension: int, timeout: float
    ) -> Vector:
        """Query (d,) of an image and a text by a joint encoder."""
        return await self._shared.query(
            encoder, image, text, fingerprint=fingerprint, dimension=dimension, timeout=timeout
        )

    async def _take(self, keys: Sequence[_Key], rows: Coroutine[Any, Any, Mapping[_Key, _Row]]) -> None:
        try:
            self._rows.update(await rows)
        except ServiceError as error:
            if not _is_about_the_content(error):  # else each query finds out about its own
                self._failed.update(dict.fromkeys(keys, error))

    def _are_there(self, keys: Sequence[_Key]) -> bool:
        for key in keys:
            if key in self._failed:
                raise self._failed[key]
        return all(key in self._rows for key in keys)


# Of one call to the embedder.
_CALL_ITEMS = 64
_CALL_BYTES = 16 * 1024 * 1024


def batched(contents: Iterable[Content], size_of: Callable[[Content], int]) -> Iterator[list[Content]]:
    """Cut contents into what one call to the embedder takes."""
    part: list[Content] = []
    size = 0
    for content in contents:
        more = size_of(content)
        if part and (len(part) >= _CALL_ITEMS or size + more > _CALL_BYTES):
            yield part
            part, size = [], 0
        part.append(content)
        size += more
    if part:
        yield part


def _size_of_text(text: str) -> int:
    return len(text.encode())


def _key(fingerprint: str, content: bytes) -> _Key:
    return fingerprint, hashlib.sha256(content).digest()


def _by_key(
    keys: Sequence[_Key],
    rows: NDArray[np.float32],
    problems: Sequence[errors.ItemError],
    cuts: Mapping[int, TextCut] = MappingProxyType({}),
) -> dict[_Key, _Row]:
    # Copies: a row that is kept must not keep the whole matrix.
    found: dict[_Key, _Row] = {
        key: _Features(row.copy(), cuts.get(place))
        for place, (key, row) in enumerate(zip(keys, rows, strict=True))
    }
    found.update({keys[problem.index]: problem for problem in problems if problem.index < len(keys)})
    return found


def _embedded_texts(keys: Sequence[_Key], found: Mapping[_Key, _Row], fields: Sequence[str]) -> EmbeddedTexts:
    embedded = _embedded(keys, found, fields)
    return EmbeddedTexts(
        np.stack([one.row for one in embedded]),
        {place: one.cut for place, one in enumerate(embedded) if one.cut is not None},
    )


def _embedded(keys: Sequence[_Key], found: Mapping[_Key, _Row], fields: Sequence[str]) -> list[_Features]:
    rows: list[_Features] = []
    for key, field in zip(keys, fields, strict=True):
        row = found[key]
        if isinstance(row, errors.ItemError):
            raise ServiceError(row.reason, f"{field}: {row.message}", field=field)
        rows.append(row)
    return rows


def _is_about_the_content(error: BaseException) -> bool:
    """Tell whether another caller's texts or images may be why an embedding failed as a whole."""
    return isinstance(error, ServiceError) and error.code is grpc.StatusCode.INVALID_ARGUMENT
