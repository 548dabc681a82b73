"""Several composed queries in one call: embedded together, answered side by side, each failing alone."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import grpc.aio

from cir.search.v1 import search_pb2 as pb
from search_service.embeddings import BatchEmbeddings, SharedEmbeddings
from search_service.explanations import NEUTRAL_TEXT
from search_service.metrics import StageTimer
from search_service.pages import page_bytes
from search_service.request import ImageReference, SearchQuery, check_count, parse_search
from search_service.search import SearchHandler
from search_service.settings import SearchSettings
from search_service.store import open_version, to_service_error
from service_runtime.errors import ServiceError
from service_runtime.interceptor import downstream_timeout
from service_runtime.receive import parse_aside
from vector_store.base import VectorStore
from vector_store.errors import StoreError

# Queries of one call that are answered at the same time.
_SIDE_BY_SIDE = 8

Context = grpc.aio.ServicerContext[Any, Any]


class BatchSearchHandler:
    """Handler of batches, over the handler of single queries."""

    def __init__(
        self,
        search: SearchHandler,
        store: VectorStore,
        embeddings: SharedEmbeddings,
        settings: SearchSettings,
    ) -> None:
        self._search = search
        self._store = store
        self._embeddings = embeddings
        self._settings = settings

    async def handle(self, request: pb.BatchSearchRequest, context: Context) -> pb.BatchSearchResponse:
        """Answer queries in their order.

        Raises:
            ServiceError: There are none, or too many.
        """
        check_count(len(request.requests), self._settings.max_batch_queries, "requests")
        timers = [StageTimer() for _ in request.requests]
        queries = await parse_aside(_parse_all, request.requests, self._settings)
        embeddings = BatchEmbeddings(self._embeddings)
        await self._embed(queries, embeddings, context)
        turns = asyncio.Semaphore(_SIDE_BY_SIDE)
        max_bytes = max(1, page_bytes(self._settings) // len(queries))

        async def answer(index: int, query: SearchQuery | ServiceError) -> pb.BatchSearchOutcome:
            try:
                if isinstance(query, ServiceError):
                    raise query
                async with turns:
                    found = await self._search.answer(query, context, timers[index], embeddings, max_bytes)
                return pb.BatchSearchOutcome(response=found)
            except ServiceError as error:
                return pb.BatchSearchOutcome(error=error.item_error(index))
            except StoreError as error:
                return pb.BatchSearchOutcome(error=to_service_error(error).item_error(index))

        outcomes = await asyncio.gather(*(answer(*numbered) for numbered in enumerate(queries)))
        return pb.BatchSearchResponse(outcomes=outcomes)

    async def _embed(
        self, queries: Sequence[SearchQuery | ServiceError], embeddings: BatchEmbeddings, context: Context
    ) -> None:
        """Embed the texts and images of all queries, those of one model together."""
        named = {(q.catalog, q.version) for q in queries if isinstance(q, SearchQuery)}
        models = dict(zip(named, await asyncio.gather(*map(self._model, named)), strict=True))
        texts: defaultdict[str, list[str]] = defaultdict(list)
        images: defaultdict[str, list[bytes]] = defaultdict(list)
        for query in queries:
            if isinstance(query, ServiceError) or not (model := models[query.catalog, query.version]):
                continue
            for turn in query.turns:
                if turn.text:
                    texts[model].append(turn.text)
                if isinstance(turn.reference, ImageReference):
                    images[model].append(turn.reference.content)
            if query.explains_turns:
                texts[model].append(NEUTRAL_TEXT)
        timeout = downstream_timeout(context, self._settings.call_timeout_seconds)
        await asyncio.gather(
            *(
                embeddings.prepare(texts[model], images[model], fingerprint=model, timeout=timeout)
                for model in {*texts, *images}
            )
        )

    async def _model(self, named: tuple[str, str]) -> str:
        """Return the fingerprint of a version's model; empty where a query will find out what is wrong."""
        try:
            async with open_version(self._store, *named) as version:
                await self._search.count_unindexed(version)
                return version.info.spec.model_fingerprint
        except (ServiceError, StoreError):
            return ""


def _parse_all(
    requests: Sequence[pb.SearchRequest], settings: SearchSettings
) -> list[SearchQuery | ServiceError]:
    parsed: list[SearchQuery | ServiceError] = []
    for request in requests:
        try:
            parsed.append(parse_search(request, settings))
        except ServiceError as error:
            parsed.append(error)
    return parsed
