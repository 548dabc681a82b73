"""The points of one shard. Every engine call runs on a thread; the event loop never waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, wait
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import UUID

import numpy as np
import qdrant_edge as edge

from vector_store.catalogs import VersionSpec
from vector_store.edge_config import field_indexes, shard_config
from vector_store.edge_errors import engine_errors
from vector_store.edge_filter import edge_filter
from vector_store.errors import StoreUnavailable
from vector_store.field_keys import TERMS, data_path
from vector_store.filters import Filter
from vector_store.points import FacetValue
from vector_store.points_engine import Hit, PointsEngine, Record, SearchPlan
from vector_store.stored_point import StoredPoints

T = TypeVar("T")

# Terms are for filters alone; reading them back would only cost time.
_PAYLOAD = edge.PayloadSelector.Exclude([TERMS])
_QUANTIZED = edge.QuantizationSearchParams(rescore=True, oversampling=2.0)
_UNQUANTIZED = edge.QuantizationSearchParams(ignore=True)


class EdgePoints(PointsEngine):
    """An open shard. Close it once; calls that run then finish first, later ones are refused."""

    def __init__(self, shard: edge.EdgeShard, executor: Executor, name: str) -> None:
        self._shard = shard
        self._executor = executor
        self._name = name
        self._running: set[Future[Any]] = set()
        self._closing = False

    @staticmethod
    def create(path: Path, spec: VersionSpec, executor: Executor, name: str) -> EdgePoints:
        """A new shard at `path` with the indexes of the schema. Blocks."""
        with engine_errors(f"create {name}"):
            shard = edge.EdgeShard.create(str(path), shard_config(spec))
            for operation in field_indexes(spec):
                shard.update(operation)
            return EdgePoints(shard, executor, name)

    @staticmethod
    def load(path: Path, executor: Executor, name: str) -> EdgePoints:
        """The shard at `path`. Raises `StoreLocked` when another process has it open. Blocks."""
        with engine_errors(f"open {name}"):
            return EdgePoints(edge.EdgeShard.load(str(path)), executor, name)

    async def search(self, plan: SearchPlan) -> list[Hit]:
        request = edge.QueryRequest(
            limit=plan.limit,
            query=edge.Query.Nearest(plan.vector.tolist()),
            filter=edge_filter(plan.where),
            params=edge.SearchParams(
                hnsw_ef=plan.ef,
                exact=plan.exact,
                quantization=_UNQUANTIZED if plan.exact else _QUANTIZED,
            ),
            with_payload=_PAYLOAD,
            with_vector=plan.with_vectors,
        )
        return await self._run(
            lambda: [Hit(_record(point), point.score) for point in self._shard.query(request)]
        )

    async def retrieve(self, ids: Sequence[str], *, with_vectors: bool) -> list[Record]:
        found = await self._run(lambda: self._shard.retrieve(list(ids), _PAYLOAD, with_vectors))
        return [_record(point) for point in found]

    async def scroll(
        self, *, limit: int, after: str, where: Filter | None, with_vectors: bool
    ) -> tuple[list[Record], str]:
        request = edge.ScrollRequest(
            offset=UUID(after) if after else None,
            limit=limit,
            filter=edge_filter(where),
            with_payload=_PAYLOAD,
            with_vector=with_vectors,
        )
        points, following = await self._run(lambda: self._shard.scroll(request))
        return [_record(point) for point in points], "" if following is None else str(following)

    async def count(self, where: Filter | None) -> int:
        request = edge.CountRequest(exact=True, filter=edge_filter(where))
        return await self._run(lambda: self._shard.count(request))

    async def facet(self, field: str, *, limit: int, where: Filter | None) -> list[FacetValue]:
        request = edge.FacetRequest(data_path(field), limit=limit, exact=True, filter=edge_filter(where))
        return await self._run(
            lambda: [FacetValue(hit.value, hit.count) for hit in self._shard.facet(request).hits]
        )

    async def upsert(self, points: StoredPoints) -> None:
        await self._run(lambda: self._write(points))

    async def delete(self, ids: Sequence[str]) -> None:
        await self._run(lambda: self._shard.update(edge.UpdateOperation.delete_points(list(ids))))

    async def flush(self) -> None:
        """Write everything to its final files, so that reopening need not replay a log."""
        await self._run(self._shard.flush)

    async def close(self) -> None:
        """Let running calls finish, then give the shard free for other processes."""
        if self._closing:
            return
        self._closing = True
        await asyncio.wrap_future(self._executor.submit(self._close_shard, list(self._running)))

    def _write(self, points: StoredPoints) -> None:
        rows = zip(points.ids, np.ascontiguousarray(points.vectors), points.payloads, strict=True)
        batch = [edge.Point(point_id, vector, payload) for point_id, vector, payload in rows]
        self._shard.update(edge.UpdateOperation.upsert_points(batch))

    def _close_shard(self, running: list[Future[Any]]) -> None:
        # A caller that was cancelled stops waiting, but its call still runs on its thread.
        wait(running)
        with engine_errors(f"close {self._name}"):
            self._shard.close()

    async def _run(self, call: Callable[[], T]) -> T:
        if self._closing:
            raise StoreUnavailable(f"{self._name} is closed")
        future = self._executor.submit(self._guarded, call)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return await asyncio.wrap_future(future)

    def _guarded(self, call: Callable[[], T]) -> T:
        with engine_errors(f"read or write {self._name}"):
            return call()


def _record(point: edge.ScoredPoint | edge.Record) -> Record:
    # A shard of ours has one unnamed vector and always a payload.
    return Record(cast(dict[str, Any], point.payload), cast("Sequence[float] | None", point.vector))
