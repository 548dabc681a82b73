"""One composed query from request to answer."""

from __future__ import annotations

from typing import Any

import grpc.aio

from cir.search.v1 import search_pb2 as pb
from cir.vectors import normalize, pack
from search_service.embeddings import Embeddings, SharedEmbeddings
from search_service.metrics import StageTimer
from search_service.names import version_name
from search_service.pages import page_bytes, result_messages
from search_service.query import (
    FEEDBACK,
    Composed,
    ComposedQuery,
    FeedbackMethod,
    TurnFeatures,
    TurnKind,
    Vector,
    fold,
)
from search_service.request import SearchQuery, parse_search
from search_service.settings import SearchSettings
from search_service.store import UnindexedItems, check_filter_fits, check_group_fits, open_version
from search_service.turn_features import look_up_turns
from search_service.upstreams import CombinerClient
from service_runtime.interceptor import downstream_timeout
from service_runtime.page_token import PageToken
from service_runtime.receive import parse_aside
from vector_store.base import CatalogVersion, VectorStore
from vector_store.types import ScoredItem

_KINDS = {kind: pb.TurnKind.Value(kind.name) for kind in TurnKind}
_FEEDBACK = {method: pb.FeedbackMethod.Value(method.name) for method in FeedbackMethod}

Context = grpc.aio.ServicerContext[pb.SearchRequest, pb.SearchResponse]


class SearchHandler:
    """Handler of search requests, over a store, embeddings and a combiner."""

    def __init__(
        self,
        store: VectorStore,
        embeddings: SharedEmbeddings,
        combiner: CombinerClient,
        unindexed: UnindexedItems,
        settings: SearchSettings,
    ) -> None:
        self._store = store
        self._embeddings = embeddings
        self._unindexed = unindexed
        self._combiner = combiner
        self._settings = settings

    async def handle(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:
        """Answer a request.

        Raises:
            ServiceError: The request cannot be served.
            StoreError: The catalog or version does not exist, or the store cannot be used.
        """
        timer = StageTimer()
        query = await parse_aside(parse_search, request, self._settings)
        return await self.answer(query, context, timer, self._embeddings, page_bytes(self._settings))

    async def answer(
        self,
        query: SearchQuery,
        context: grpc.aio.ServicerContext[Any, Any],
        timer: StageTimer,
        embeddings: Embeddings,
        max_bytes: int,
    ) -> pb.SearchResponse:
        """Answer a query with results of at most `max_bytes`. Raises as `handle` does."""
        async with open_version(
            self._store, query.catalog, query.version, from_token=query.from_token
        ) as version:
            check_filter_fits(query.where, version.info.spec)
            check_group_fits(query.options.group_by, version.info.spec)
            composed = await self._compose_query(query, version, timer, context, embeddings)
            with timer.stage("store"):
                # One more than the page holds tells whether there is another page.
                found = await version.query(
                    composed.vector,
                    limit=query.limit + 1,
                    offset=query.offset,
                    where=query.where,
                    options=query.options,
                )
                unindexed = await self._unindexed.count(version)
            response = self._build_response(query, version, composed, found, unindexed, max_bytes)
        response.timings.CopyFrom(timer.timings())
        return response

    async def _compose_query(
        self,
        query: SearchQuery,
        version: CatalogVersion,
        timer: StageTimer,
        context: grpc.aio.ServicerContext[Any, Any],
        embeddings: Embeddings,
    ) -> ComposedQuery:
        """Look up what the turns name, and fold them into one query vector."""
        longest = self._settings.call_timeout_seconds
        start, turns = await look_up_turns(
            query.turns,
            version=version,
            embeddings=embeddings,
            timer=timer,
            timeout=downstream_timeout(context, longest),
        )

        spec = version.info.spec

        async def combine(image: Vector, text: Vector, turn: TurnFeatures) -> Composed:
            with timer.stage("combine"):
                answer = await self._combiner.combine(
                    image,
                    text,
                    combiner=query.combiner,
                    text_weight=turn.text_weight,
                    fingerprint=spec.model_fingerprint,
                    timeout=downstream_timeout(context, longest),
                )
            if isinstance(answer, Composed):
                return answer
            with timer.stage("embed_texts"):
                sentence, cut = await embeddings.sentence(
                    answer.template,
                    turn.words,
                    answer.word,
                    fingerprint=spec.model_fingerprint,
                    dimension=spec.dimension,
                    timeout=downstream_timeout(context, longest),
                )
            return Composed(normalize(sentence), None, cut)

        return await fold(start, turns, combine, FEEDBACK[query.feedback])

    def _build_response(
        self,
        query: SearchQuery,
        version: CatalogVersion,
        composed: ComposedQuery,
        found: list[ScoredItem],
        unindexed: int | None,
        max_bytes: int,
    ) -> pb.SearchResponse:
        """Build the answer but its timings. Each field of a `SearchResponse` is filled in here alone."""
        info = version.info
        response = pb.SearchResponse(
            results=result_messages(
                found[: query.limit],
                info.spec,
                max_bytes,
                first_rank=query.offset + 1,
            ),
            explanation=pb.SearchExplanation(
                turns=[
                    pb.TurnExplanation(
                        kind=_KINDS[turn.kind],
                        text_weight=turn.text_weight,
                        text_tokens=turn.cut.tokens if turn.cut else 0,
                        read_tokens=turn.cut.read_tokens if turn.cut else 0,
                    )
                    for turn in composed.turns
                ],
                combiner=query.combiner if query.uses_combiner else "",
                version=version_name(info.catalog, info.version),
                model_fingerprint=info.spec.model_fingerprint,
                exact=query.options.exact or (unindexed is not None and unindexed >= info.points),
                unindexed_items=unindexed,
                feedback=_FEEDBACK[query.feedback] if query.has_feedback else pb.FEEDBACK_METHOD_UNSPECIFIED,
            ),
        )
        end = query.offset + len(response.results)
        if len(found) > len(response.results) and end < self._settings.max_result_window:
            response.next_page_token = PageToken(info.version, str(end)).encode(query.digest)
        if query.with_query_vector:
            response.query_vector.CopyFrom(
                pack(composed.vector[None, :], fingerprint=info.spec.model_fingerprint)
            )
        return response
