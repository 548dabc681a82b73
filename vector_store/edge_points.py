"""The points of one shard. Every engine call runs on a thread; the event loop never waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
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
from vector_store.edge_sums import damaged
from vector_store.errors import StoreLocked, StoreUnavailable
from vector_store.field_keys import TERMS, data_path
from vector_store.filters import Filter
from vector_store.points import FacetValue
from vector_store.points_engine import Hit, PointsEngine, Record, SearchPlan
from vector_store.stored_point import StoredPoints

T = TypeVar("T")

# Terms are for filters alone; reading them back would only cost time.
_PAYLOAD = edge.PayloadSelector.Exclude([TERMS])
_UNQUANTIZED = edge.QuantizationSearchParams(ignore=True)


class EdgePoints(PointsEngine):
    """An open shard. Close it once; calls that run then finish first, later ones are refused."""

    def __init__(
        self, shard: edge.EdgeShard, executor: Executor, name: str, before_write: Callable[[], None]
    ) -> None:
        """`before_write` runs on a thread before each change, and what it raises forbids the change."""
        self._shard = shard
        self._executor = executor
        self._name = name
        self._before_write = before_write
        self._running: set[Future[Any]] = set()
        self._closing = False

    @staticmethod
    def create(
        path: Path, spec: VersionSpec, executor: Executor, name: str, before_write: Callable[[], None]
    ) -> EdgePoints:
        """A new shard at `path` with the indexes of the schema. Blocks."""
        with engine_errors(f"create {name}"):
            shard = edge.EdgeShard.create(str(path), shard_config(spec))
            for operation in field_indexes(spec):
                shard.update(operation)
            return EdgePoints(shard, executor, name, before_write)

    @staticmethod
    def load(path: Path, executor: Executor, name: str, before_write: Callable[[], None]) -> EdgePoints:
        """The shard at `path`. Blocks.

        Raises `StoreLocked` when another process has it open, `StoreDamaged` when it cannot be read.
        """
        try:
            with engine_errors(f"open {name}"):
                return EdgePoints(edge.EdgeShard.load(str(path)), executor, name, before_write)
        except StoreLocked:
            raise
        except StoreUnavailable as error:
            raise damaged(name, str(error)) from error

    async def search(self, plan: SearchPlan) -> list[Hit]:
        request = edge.QueryRequest(
            limit=plan.limit,
            query=edge.Query.Nearest(plan.vector.tolist()),
            filter=edge_filter(plan.where),
            params=edge.SearchParams(
                hnsw_ef=plan.ef,
                exact=plan.exact,
                quantization=_UNQUANTIZED if plan.exact else _quantized(plan),
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

    async def unindexed(self) -> int:
        info = await self._run(lambda: self._shard.info())
        return max(0, info.points_count - info.indexed_vectors_count)

    async def upsert(self, points: StoredPoints) -> None:
        await self._run(lambda: self._write(points))

    async def set_payloads(self, documents: Mapping[str, dict[str, Any]]) -> None:
        await self._run(lambda: self._set_payloads(documents))

    async def delete(self, ids: Sequence[str]) -> None:
        operation = edge.UpdateOperation.delete_points(list(ids))
        await self._run(lambda: self._update(operation))

    async def delete_where(self, where: Filter) -> None:
        operation = edge.UpdateOperation.delete_points_by_filter(cast(edge.Filter, edge_filter(where)))
        await self._run(lambda: self._update(operation))

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
        self._update(edge.UpdateOperation.upsert_points(batch))

    def _set_payloads(self, documents: Mapping[str, dict[str, Any]]) -> None:
        for engine_id, document in documents.items():
            self._update(edge.UpdateOperation.set_payload([engine_id], document))

    def _update(self, operation: edge.UpdateOperation) -> None:
        self._before_write()
        self._shard.update(operation)

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


def _quantized(plan: SearchPlan) -> edge.QuantizationSearchParams:
    return edge.QuantizationSearchParams(rescore=plan.rescore, oversampling=plan.oversampling)


def _record(point: edge.ScoredPoint | edge.Record) -> Record:
    # A shard of ours has one unnamed vector and always a payload.
    return Record(cast(dict[str, Any], point.payload), cast("Sequence[float] | None", point.vector))
