"""SearchService over gRPC: a thin servicer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

import grpc.aio

from cir.combiner.v1 import combiner_pb2
from cir.embedder.v1 import embedder_pb2
from cir.limits import MAX_FILTER_TEXT_CHARACTERS, MAX_PAYLOAD_BYTES
from cir.search.v1 import search_pb2 as pb
from cir.search.v1 import search_pb2_grpc as rpc
from search_service import names
from search_service.adapted_combiners import catalog_of
from search_service.batch_search import BatchSearchHandler
from search_service.embedder_client import EmbedderClient
from search_service.embeddings import SharedEmbeddings
from search_service.metrics import SearchMetrics
from search_service.pages import page_bytes
from search_service.query_log import QueryLog
from search_service.search import SearchHandler
from search_service.settings import SearchSettings
from search_service.store import UnindexedItems, to_service_error
from search_service.upstreams import CombinerClient
from service_runtime.errors import ServiceError
from service_runtime.settings import software_version
from vector_store.base import VectorStore
from vector_store.errors import StoreError

_PROBE_SECONDS = 2.0


class SearchServicer(rpc.SearchServiceServicer):
    """The service's two methods: searching, and telling limits and the state of the services behind it."""

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
        self._handler = SearchHandler(store, embeddings, combiner, unindexed, settings)
        self._batch = BatchSearchHandler(self._handler, store, embeddings, settings)
        self._store = store
        self._embedder = embedder
        self._combiner = combiner
        self._settings = settings
        self._query_log = (
            QueryLog(settings.query_log, settings.query_log_bytes) if settings.query_log else None
        )

    async def close(self) -> None:
        """End what no call waits for, and write what waits for the query log."""
        await self._handler.close()
        if self._query_log is not None:
            await asyncio.to_thread(self._query_log.close)

    async def Search(
        self,
        request: pb.SearchRequest,
        context: grpc.aio.ServicerContext[pb.SearchRequest, pb.SearchResponse],
    ) -> pb.SearchResponse:
        """Find items; see protos/cir/search/v1/search.proto."""
        response = await self._handler.handle(request, context)
        self.metrics.record_response(response)
        if self._query_log is not None:
            self._query_log.write(request, response)
        return response

    async def BatchSearch(
        self,
        request: pb.BatchSearchRequest,
        context: grpc.aio.ServicerContext[pb.BatchSearchRequest, pb.BatchSearchResponse],
    ) -> pb.BatchSearchResponse:
        """Answer several queries, each on its own."""
        response = await self._batch.handle(request, context)
        for outcome in response.outcomes:
            if outcome.HasField("response"):
                self.metrics.record_response(outcome.response)
        return response

    async def GetSearchInfo(
        self,
        request: pb.GetSearchInfoRequest,
        context: grpc.aio.ServicerContext[pb.GetSearchInfoRequest, pb.GetSearchInfoResponse],
    ) -> pb.GetSearchInfoResponse:
        """Return limits, and the state of each dependency. One that cannot be reached fails no call."""
        (embedder, model_state), (combiners, combiner_state), (store, store_state) = await asyncio.gather(
            _probe(self._embedder.whole_info(timeout=_PROBE_SECONDS)),
            _probe(self._combiner.usable(timeout=_PROBE_SECONDS)),
            _probe(self._store.check()),
        )
        # A catalog's own combiner has its name, which is for the keys of the catalog alone.
        usable = [each for each in combiners or () if not (own := catalog_of(each)) or names.may_use(own)]
        return pb.GetSearchInfoResponse(
            limits=limits_message(self._settings),
            model=embedder.model if embedder else None,
            combiners=[
                *(combiner.name for combiner in usable),
                *(encoder.name for encoder in (embedder.joint_encoders if embedder else ())),
            ],
            weighted_combiners=[each.name for each in usable if each.takes_text_weight],
            dependencies={"embedder": model_state, "combiner": combiner_state, "store": store_state},
            store=store or {},
            default_combiner=self._settings.default_combiner,
            catalog_combiners=self._catalog_combiners(usable, embedder),
            version=software_version(),
        )

    def _catalog_combiners(
        self,
        combiners: Sequence[combiner_pb2.Combiner],
        embedder: embedder_pb2.GetEmbedderInfoResponse | None,
    ) -> dict[str, str]:
        """Return the combiners that catalogs have of their own."""
        if embedder is None or not self._settings.adapted_combiners:
            return {}
        return {
            catalog: each.name
            for each in combiners
            if (catalog := catalog_of(each)) and each.model_fingerprint == embedder.model.fingerprint
        }


async def _probe(part: Awaitable[Any]) -> tuple[Any, str]:
    try:
        return await part, "ok"
    except ServiceError as error:
        return None, error.message
    except StoreError as error:
        return None, to_service_error(error).message


def limits_message(settings: SearchSettings) -> pb.SearchLimits:
    """Return the limits that the settings set, as a message."""
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
        max_page_bytes=page_bytes(settings),
        max_payload_bytes=MAX_PAYLOAD_BYTES,
        max_message_parts=settings.max_message_parts,
        max_filter_text_characters=MAX_FILTER_TEXT_CHARACTERS,
        max_batch_queries=settings.max_batch_queries,
    )
