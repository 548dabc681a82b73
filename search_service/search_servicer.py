"""SearchService over gRPC: a thin servicer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import grpc.aio

from cir.search.v1 import search_pb2 as pb
from cir.search.v1 import search_pb2_grpc as rpc
from search_service.embedder_client import EmbedderClient
from search_service.embeddings import SharedEmbeddings
from search_service.metrics import SearchMetrics
from search_service.search import Search
from search_service.settings import SearchSettings
from search_service.store import UnindexedItems, store_refusals
from search_service.upstreams import CombinerClient
from service_runtime.errors import ServiceError
from service_runtime.settings import software_version
from vector_store.base import VectorStore

_PROBE_SECONDS = 2.0


class SearchServicer(rpc.SearchServiceServicer):
    """Answers searches, and tells what stands behind them."""

    def __init__(
        self, store: VectorStore, embedder: EmbedderClient, combiner: CombinerClient, settings: SearchSettings
    ) -> None:
        self.metrics = SearchMetrics()
        embeddings = SharedEmbeddings(
            embedder,
            self.metrics,
            longest_seconds=settings.call_timeout_seconds,
            remembered_texts=settings.remembered_texts,
        )
        unindexed = UnindexedItems(self.metrics.unindexed)
        self._search = Search(store, embeddings, combiner, unindexed, settings)
        self._store = store
        self._embedder = embedder
        self._combiner = combiner
        self._settings = settings

    async def Search(
        self,
        request: pb.SearchRequest,
        context: grpc.aio.ServicerContext[pb.SearchRequest, pb.SearchResponse],
    ) -> pb.SearchResponse:
        """Find items; see protos/cir/search/v1/search.proto."""
        answer = await self._search.answer(request, context)
        self.metrics.answered(answer)
        return answer

    async def GetSearchInfo(
        self,
        request: pb.GetSearchInfoRequest,
        context: grpc.aio.ServicerContext[pb.GetSearchInfoRequest, pb.GetSearchInfoResponse],
    ) -> pb.GetSearchInfoResponse:
        """Limits, and the state of each dependency. A dependency that is away makes no failed call."""
        (model, model_state), (names, names_state), (store, store_state) = await asyncio.gather(
            _probe(self._embedder.info(timeout=_PROBE_SECONDS)),
            _probe(self._combiner.names(timeout=_PROBE_SECONDS)),
            _probe(self._check_store()),
        )
        return pb.GetSearchInfoResponse(
            limits=limits_message(self._settings),
            model=model,
            combiners=names or (),
            dependencies={"embedder": model_state, "combiner": names_state, "store": store_state},
            store=store or {},
            default_combiner=self._settings.default_combiner,
            version=software_version(),
        )

    async def _check_store(self) -> dict[str, str]:
        with store_refusals():
            return dict(await self._store.check())


async def _probe(part: Awaitable[Any]) -> tuple[Any, str]:
    try:
        return await part, "ok"
    except ServiceError as error:
        return None, error.message


def limits_message(settings: SearchSettings) -> pb.SearchLimits:
    """The limits that the settings set."""
    return pb.SearchLimits(
        max_turns=settings.max_turns,
        max_text_characters=settings.max_text_characters,
        max_image_bytes=settings.max_image_bytes,
        max_results=settings.max_results,
        max_result_window=settings.max_result_window,
        max_filter_conditions=settings.max_filter_conditions,
        max_feedback_items=settings.max_feedback_items,
        max_write_items=settings.max_write_items,
        max_message_bytes=settings.max_message_bytes,
        max_concurrent_calls=settings.max_concurrent_calls,
    )
