"""The points of one collection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from qdrant_client import AsyncQdrantClient, models

from cir.limits import payload_bytes
from vector_store.backend import Hit, PointsBackend, Record, SearchPlan
from vector_store.codec import StoredPoints
from vector_store.filters import Filter
from vector_store.payload_index import TERMS, data_path
from vector_store.qdrant.client import engine_errors
from vector_store.qdrant.filter import qdrant_filter
from vector_store.types import FacetValue

# Terms are for filters alone; reading them back would only cost time.
_PAYLOAD = models.PayloadSelectorExclude(exclude=[TERMS])
_UNQUANTIZED = models.QuantizationSearchParams(ignore=True)

# Servers refuse requests above 32 MB; vectors and payloads of one write stay well below.
_WRITE_BYTES = 8 << 20
_OPERATIONS = 256


def _writes(sizes: Sequence[int], most: int) -> Iterator[slice]:
    """Cut a list into parts of at most `most` entries and `_WRITE_BYTES`, or of one that is larger."""
    start, left = 0, _WRITE_BYTES
    for place, size in enumerate(sizes):
        if place > start and (size > left or place - start >= most):
            yield slice(start, place)
            start, left = place, _WRITE_BYTES
        left -= size
    if sizes:
        yield slice(start, len(sizes))


class QdrantPoints(PointsBackend):
    """Points of `collection`; `version` names its version in messages.

    `local` is the client's local mode, which compares with every vector and warns of search parameters.
    """

    def __init__(self, client: AsyncQdrantClient, collection: str, version: str, *, local: bool) -> None:
        self._client = client
        self._collection = collection
        self._version = version
        self._local = local

    async def search(self, plan: SearchPlan) -> list[Hit]:
        quantization = _UNQUANTIZED if plan.exact else _quantized(plan)
        params = models.SearchParams(hnsw_ef=plan.ef, exact=plan.exact, quantization=quantization)
        with engine_errors(f"search {self._version}"):
            answer = await self._client.query_points(
                self._collection,
                query=plan.vector.tolist(),
                query_filter=qdrant_filter(plan.where),
                search_params=None if self._local else params,
                limit=plan.limit,
                with_payload=_PAYLOAD
                if plan.members is None
                else models.PayloadSelectorInclude(include=list(plan.members)),
                with_vectors=plan.with_vectors,
            )
        return [Hit(_record(point), point.score) for point in answer.points]

    async def retrieve(self, ids: Sequence[str], *, with_vectors: bool) -> list[Record]:
        with engine_errors(f"read {self._version}"):
            points = await self._client.retrieve(
                self._collection, ids=list(ids), with_payload=_PAYLOAD, with_vectors=with_vectors
            )
        return [_record(point) for point in points]

    async def scroll(
        self, *, limit: int, after: str, where: Filter | None, with_vectors: bool
    ) -> tuple[list[Record], str]:
        with engine_errors(f"read {self._version}"):
            points, following = await self._client.scroll(
                self._collection,
                scroll_filter=qdrant_filter(where),
                limit=limit,
                offset=after or None,
                with_payload=_PAYLOAD,
                with_vectors=with_vectors,
            )
        return [_record(point) for point in points], "" if following is None else str(following)

    async def count(self, where: Filter | None) -> int:
        with engine_errors(f"count {self._version}"):
            answer = await self._client.count(self._collection, count_filter=qdrant_filter(where), exact=True)
        return answer.count

    async def facet(self, field: str, *, limit: int, where: Filter | None) -> list[FacetValue]:
        with engine_errors(f"count {self._version}"):
            answer = await self._client.facet(
                self._collection,
                key=data_path(field),
                facet_filter=qdrant_filter(where),
                limit=limit,
                exact=True,
            )
        return [FacetValue(hit.value, hit.count) for hit in answer.hits]

    async def unindexed(self) -> int:
        with engine_errors(f"read {self._version}"):
            info = await self._client.get_collection(self._collection)
        return max(0, (info.points_count or 0) - (info.indexed_vectors_count or 0))

    async def upsert(self, points: StoredPoints) -> None:
        vector_bytes = 4 * points.vectors.shape[1]
        sizes = [vector_bytes + payload_bytes(document) for document in points.payloads]
        for part in _writes(sizes, len(sizes)):
            with engine_errors(f"write {self._version}"):
                await self._client.upsert(
                    self._collection,
                    points=models.Batch(
                        ids=list(points.ids[part]),
                        vectors=points.vectors[part].tolist(),
                        payloads=points.payloads[part],
                    ),
                    wait=True,
                )

    async def set_payloads(self, documents: Mapping[str, dict[str, Any]]) -> None:
        # By filter: an id that was deleted meanwhile would be an error, which keeps back those behind it.
        operations = [
            models.SetPayloadOperation(
                set_payload=models.SetPayload(
                    payload=document,
                    filter=models.Filter(must=[models.HasIdCondition(has_id=[engine_id])]),
                )
            )
            for engine_id, document in documents.items()
        ]
        sizes = [payload_bytes(document) for document in documents.values()]
        for part in _writes(sizes, _OPERATIONS):
            with engine_errors(f"write {self._version}"):
                await self._client.batch_update_points(
                    self._collection, update_operations=operations[part], wait=True
                )

    async def delete_where(self, where: Filter) -> None:
        selector = models.FilterSelector(filter=cast(models.Filter, qdrant_filter(where)))
        with engine_errors(f"write {self._version}"):
            await self._client.delete(self._collection, points_selector=selector, wait=True)

    async def delete(self, ids: Sequence[str]) -> None:
        with engine_errors(f"write {self._version}"):
            await self._client.delete(
                self._collection, points_selector=models.PointIdsList(points=list(ids)), wait=True
            )


def _quantized(plan: SearchPlan) -> models.QuantizationSearchParams:
    return models.QuantizationSearchParams(rescore=plan.rescore, oversampling=plan.oversampling)


def _record(point: models.ScoredPoint | models.Record) -> Record:
    # A collection of ours has one unnamed vector and always a payload.
    return Record(point.id, cast(dict[str, Any], point.payload), cast("Sequence[float] | None", point.vector))
