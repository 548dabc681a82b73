"""One composed query from request to answer."""

from __future__ import annotations

import grpc.aio
import numpy as np
from numpy.typing import NDArray

from cir.common.v1 import errors_pb2 as errors
from cir.search.v1 import search_pb2 as pb
from cir.vectors import pack
from search_service.convert import item_message
from search_service.embeddings import SharedEmbeddings
from search_service.filters import parse_filter
from search_service.metrics import StageTimer
from search_service.names import parse_catalog, parse_version, version_name
from search_service.paging import PageToken, decode_page_token, invalid_page_token, request_digest
from search_service.query import ComposedQuery, TurnKind, average_vector, fold, rocchio
from search_service.request import DEFAULT_LIMIT, check_request
from search_service.settings import SearchSettings
from search_service.store import UnindexedItems, open_reader, store_refusals
from search_service.turn_features import look_up_turns
from search_service.upstreams import CombinerClient
from service_runtime.errors import ServiceError
from service_runtime.interceptor import downstream_timeout
from vector_store.base import CatalogVersion, SearchOptions, VectorStore
from vector_store.filters import Filter, HasId
from vector_store.types import ScoredItem

_KINDS = {kind: pb.TurnKind.Value(kind.name) for kind in TurnKind}
_FEEDBACK = {pb.ROCCHIO: rocchio, pb.RECOMMEND: average_vector}
_COMBINED = (TurnKind.COMPOSED, TurnKind.CONTINUED)


class Search:
    """Serves search requests from a store, embeddings and a combiner."""

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

    async def answer(
        self,
        request: pb.SearchRequest,
        context: grpc.aio.ServicerContext[pb.SearchRequest, pb.SearchResponse],
    ) -> pb.SearchResponse:
        """The answer to a request. Raises `ServiceError`."""
        clock = StageTimer()
        catalog = parse_catalog(request.catalog, field="catalog")
        check_request(request, self._settings)
        where = _where(request, self._settings)
        version, offset = self._page(request, catalog)
        async with open_reader(self._store, catalog, version, paging=bool(request.page_token)) as reader:
            folded = await self._compose(request, reader, clock, context)
            limit = request.limit or DEFAULT_LIMIT
            found, unindexed = await self._query(
                request, reader, folded.query, where, offset, limit + 1, clock
            )
            return self._write(request, reader, folded, found, unindexed, offset, limit, clock)

    def _page(self, request: pb.SearchRequest, catalog: str) -> tuple[str, int]:
        """Version to search ('' = the published one) and the offset of the page."""
        version = ""
        if request.pinned_version:
            owner, version = parse_version(request.pinned_version, field="pinned_version")
            if owner != catalog:
                raise ServiceError(
                    errors.FIELD_INVALID,
                    f"pinned_version is one of catalog {owner}, the search is in catalog {catalog}",
                    field="pinned_version",
                )
        if not request.page_token:
            return version, 0
        token = decode_page_token(request.page_token, query_digest(request))
        if token.offset >= self._settings.max_result_window:
            raise invalid_page_token()
        return token.version, token.offset

    async def _compose(
        self,
        request: pb.SearchRequest,
        reader: CatalogVersion,
        clock: StageTimer,
        context: grpc.aio.ServicerContext[pb.SearchRequest, pb.SearchResponse],
    ) -> ComposedQuery:
        longest = self._settings.call_timeout_seconds
        turns = await look_up_turns(
            request.turns,
            reader=reader,
            embeddings=self._embeddings,
            clock=clock,
            timeout=downstream_timeout(context, longest),
        )

        async def combine(
            image: NDArray[np.float32], text: NDArray[np.float32], text_weight: float | None
        ) -> tuple[NDArray[np.float32], float]:
            with clock.stage("combine"):
                return await self._combiner.combine(
                    image,
                    text,
                    combiner=request.combiner or self._settings.default_combiner,
                    text_weight=text_weight,
                    fingerprint=reader.info.spec.model_fingerprint,
                    timeout=downstream_timeout(context, longest),
                )

        return await fold(turns, combine, _FEEDBACK[_feedback(request)])

    async def _query(
        self,
        request: pb.SearchRequest,
        reader: CatalogVersion,
        query: NDArray[np.float32],
        where: Filter,
        offset: int,
        limit: int,
        clock: StageTimer,
    ) -> tuple[list[ScoredItem], int | None]:
        """The items found, and how many items no index holds."""
        options = SearchOptions(
            exact=request.exact,
            ef=request.ef or None,
            score_threshold=request.score_threshold if request.HasField("score_threshold") else None,
            with_features=request.with_features,
            diversity=request.diversity,
            group_by=request.group_by,
            group_size=request.group_size or 1,
        )
        with clock.stage("store"), store_refusals(field="filter" if where else ""):
            found = await reader.query(
                query, limit=limit, offset=offset, where=where or None, options=options
            )
            return found, await self._unindexed.of(reader)

    def _write(
        self,
        request: pb.SearchRequest,
        reader: CatalogVersion,
        folded: ComposedQuery,
        found: list[ScoredItem],
        unindexed: int | None,
        offset: int,
        limit: int,
        clock: StageTimer,
    ) -> pb.SearchResponse:
        info = reader.info
        used = any(turn.kind in _COMBINED for turn in folded.turns)
        answer = pb.SearchResponse(
            results=[
                pb.SearchResult(item=item_message(hit.item, info.spec), score=hit.score, rank=offset + place)
                for place, hit in enumerate(found[:limit], start=1)
            ],
            explanation=pb.SearchExplanation(
                turns=[
                    pb.TurnExplanation(kind=_KINDS[turn.kind], text_weight=turn.text_weight)
                    for turn in folded.turns
                ],
                combiner=(request.combiner or self._settings.default_combiner) if used else "",
                version=version_name(info.catalog, info.version),
                model_fingerprint=info.spec.model_fingerprint,
                exact=request.exact or (unindexed is not None and unindexed >= info.points),
                unindexed_items=unindexed,
                feedback=_feedback(request) if _has_feedback(request) else pb.FEEDBACK_METHOD_UNSPECIFIED,
            ),
        )
        if len(found) > limit and offset + limit < self._settings.max_result_window:
            answer.next_page_token = PageToken(info.version, str(offset + limit)).encode(
                query_digest(request)
            )
        if request.with_query_vector:
            answer.query_vector.CopyFrom(pack(folded.query[None, :], fingerprint=info.spec.model_fingerprint))
        answer.timings.CopyFrom(clock.timings())
        return answer


def _feedback(request: pb.SearchRequest) -> pb.FeedbackMethod.ValueType:
    """How feedback moves the query."""
    return request.feedback or pb.ROCCHIO


def _has_feedback(request: pb.SearchRequest) -> bool:
    return any(turn.liked_item_ids or turn.disliked_item_ids for turn in request.turns)


def query_digest(request: pb.SearchRequest) -> bytes:
    """What pages of one ranking have in common; their tokens are bound to it."""
    return request_digest(request, "page_token", "limit", "with_features", "with_query_vector")


def _where(request: pb.SearchRequest, settings: SearchSettings) -> Filter:
    """The request's filter, without the items that are not to come back."""
    where = parse_filter(request.filter, max_conditions=settings.max_filter_conditions)
    excluded = set(request.exclude_item_ids)
    for turn in request.turns:
        if _default_true(request, "exclude_references") and turn.reference.item_id:
            excluded.add(turn.reference.item_id)
        if _default_true(request, "exclude_disliked"):
            excluded.update(turn.disliked_item_ids)
    if not excluded:
        return where
    return Filter(where.must, where.should, (*where.must_not, HasId(tuple(sorted(excluded)))))


def _default_true(request: pb.SearchRequest, field: str) -> bool:
    return bool(getattr(request, field)) if request.HasField(field) else True  # type: ignore[arg-type]
