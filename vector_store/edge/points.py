"""The points of one shard. Every engine call runs on a thread; the event loop never waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import UUID

import qdrant_edge as edge

from vector_store.backend import Hit, PointsBackend, Record, SearchPlan
from vector_store.codec import StoredPoints
from vector_store.edge.filter import edge_filter
from vector_store.edge.shard import OpenShard, engine_errors
from vector_store.errors import StoreDamagedError, StoreUnavailableError
from vector_store.filters import Filter
from vector_store.payload_index import TERMS, data_path
from vector_store.types import FacetValue

T = TypeVar("T")

# Terms are for filters alone; reading them back would only cost time.
_PAYLOAD = edge.PayloadSelector.Exclude([TERMS])
_UNQUANTIZED = edge.QuantizationSearchParams(ignore=True)


class EdgePoints(PointsBackend):
    """An open shard. Close it once; calls that run then finish first, later ones are refused.

    Changes run one at a time on a thread of their own: where they wait for a copy of the files, reads do not.
    """

    def __init__(self, shard: OpenShard, executor: Executor, name: str) -> None:
        self._shard = shard
        self._executor = executor
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="vector-store-write")
        self._name = name
        self._running: set[Future[Any]] = set()
        self._closing = False
        self._damage = ""

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
            with_payload=_PAYLOAD
            if plan.members is None
            else edge.PayloadSelector.Include(list(plan.members)),
            with_vector=plan.with_vectors,
        )
        return await self._run(
            lambda: [Hit(_record(point), point.score) for point in self._shard.engine.query(request)]
        )

    async def retrieve(self, ids: Sequence[str], *, with_vectors: bool) -> list[Record]:
        found = await self._run(lambda: self._shard.engine.retrieve(list(ids), _PAYLOAD, with_vectors))
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
        points, following = await self._run(lambda: self._shard.engine.scroll(request))
        return [_record(point) for point in points], "" if following is None else str(following)

    async def count(self, where: Filter | None) -> int:
        request = edge.CountRequest(exact=True, filter=edge_filter(where))
        return await self._run(lambda: self._shard.engine.count(request))

    async def facet(self, field: str, *, limit: int, where: Filter | None) -> list[FacetValue]:
        request = edge.FacetRequest(data_path(field), limit=limit, exact=True, filter=edge_filter(where))
        return await self._run(
            lambda: [FacetValue(hit.value, hit.count) for hit in self._shard.engine.facet(request).hits]
        )

    async def unindexed(self) -> int:
        info = await self._run(lambda: self._shard.engine.info())
        return max(0, info.points_count - info.indexed_vectors_count)

    async def upsert(self, points: StoredPoints) -> None:
        await self._run(lambda: self._shard.upsert(points), changes=True)

    async def set_payloads(self, documents: Mapping[str, dict[str, Any]]) -> None:
        await self._run(lambda: self._shard.set_payloads(documents), changes=True)

    async def delete(self, ids: Sequence[str]) -> None:
        await self._run(lambda: self._shard.delete(ids), changes=True)

    async def delete_where(self, where: Filter) -> None:
        await self._run(lambda: self._shard.delete_where(cast(edge.Filter, edge_filter(where))), changes=True)

    def refuse(self, damage: str) -> None:
        """Answer every call with `StoreDamagedError(damage)`: what is stored is not to be believed."""
        self._damage = damage

    async def flush(self) -> None:
        """Write everything to its final files, so that reopening need not replay a log."""
        await self._run(self._shard.flush, changes=True)

    async def copy_to(self, target: Path) -> None:
        """Copy the files as they are now; see `OpenShard.copy_to`. Changes wait, reads continue."""
        await self._run(lambda: self._shard.copy_to(target), changes=True)

    def forget_changes(self) -> None:
        """Stop noting changes: the copy is not needed any more."""
        self._shard.forget_changes()

    async def catch_up(self, target: edge.EdgeShard) -> None:
        """Copy later changes to `target`; see `OpenShard.catch_up`. Changes and reads continue."""
        await self._run(lambda: self._shard.catch_up(target))

    async def switch(self, target: edge.EdgeShard, path: Path, commit: Callable[[], None]) -> None:
        """Continue with the shard `target` at `path`; see `OpenShard.switch`.

        Calls that run finish on the old one, which is then closed.
        """
        old = await self._run(lambda: self._shard.switch(target, path, commit), changes=True)
        await asyncio.to_thread(wait, list(self._running))
        await asyncio.to_thread(old.close)

    async def close(self) -> None:
        """Let running calls finish, then release the shard for other processes."""
        if self._closing:
            return
        self._closing = True
        await asyncio.wrap_future(self._executor.submit(self._close_shard, list(self._running)))

    def _close_shard(self, running: list[Future[Any]]) -> None:
        # A caller that was cancelled stops waiting, but its call still runs on its thread.
        wait(running)
        self._writing.shutdown(wait=False)
        with engine_errors(f"close {self._name}"):
            self._shard.close()

    async def _run(self, call: Callable[[], T], *, changes: bool = False) -> T:
        if self._damage:
            raise StoreDamagedError(self._damage)
        if self._closing:
            raise StoreUnavailableError(f"{self._name} is closed")
        future = (self._writing if changes else self._executor).submit(self._guarded, call)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        answer = await asyncio.wrap_future(future)
        if self._damage:  # found meanwhile
            raise StoreDamagedError(self._damage)
        return answer

    def _guarded(self, call: Callable[[], T]) -> T:
        with engine_errors(f"read or write {self._name}"):
            return call()


def _quantized(plan: SearchPlan) -> edge.QuantizationSearchParams:
    return edge.QuantizationSearchParams(rescore=plan.rescore, oversampling=plan.oversampling)


def _record(point: edge.ScoredPoint | edge.Record) -> Record:
    # A shard of ours has one unnamed vector and always a payload.
    return Record(point.id, cast(dict[str, Any], point.payload), cast("Sequence[float] | None", point.vector))
