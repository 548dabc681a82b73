"""Queries of one version through the store and through the bare engine: latency and recall."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import qdrant_edge as edge

from benchmarks._clusters import Vectors
from vector_store import VectorStore
from vector_store.base import CatalogVersion, SearchOptions
from vector_store.edge.filter import edge_filter
from vector_store.filters import Filter, MatchAny
from vector_store.types import Quantization

LIMIT = 10
WARM_UP = 50
EXACT_QUERIES = 50

FILTERS = {"all": (1, 0), "10 %": (10, 3), "1 %": (100, 7)}
"""What is searched: the rows that leave a remainder, by (modulus, remainder)."""

_WHERE: dict[str, Filter | None] = {
    "all": None,
    "10 %": Filter(must=(MatchAny("tenth", (3,)),)),
    "1 %": Filter(must=(MatchAny("hundredth", (7,)),)),
}

Setting = tuple[int, float]
"""`ef`, and how many times the wanted are scored again where vectors are compressed."""

Exact = dict[str, list[set[int]]]
Row = dict[str, Any]


def payload(row: int) -> dict[str, int]:
    """The fields that the filters look at."""
    return {"tenth": row % 10, "hundredth": row % 100}


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    p50, p99 = np.percentile(np.array(seconds) * 1e3, [50, 99])
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


class _Answers:
    """Time and recall of the calls of one kind; the first `WARM_UP` calls are not in them."""

    def __init__(self, exact: list[set[int]]) -> None:
        self._exact = exact
        self._calls: list[tuple[float, int, int]] = []

    def add(self, start: float, query: int, found: set[int]) -> None:
        """The call for a query, by place, that began at `start` on the performance clock and is over now."""
        seconds, wanted = time.perf_counter() - start, self._exact[query]
        self._calls.append((seconds, len(found & wanted), len(wanted)))

    def row(self) -> Row:
        seconds, right, wanted = zip(*self._calls[WARM_UP:], strict=True)
        return {**percentiles(seconds), "recall_at_10": sum(right) / max(1, sum(wanted))}


async def version_rows(
    store: VectorStore, catalog: str, queries: Vectors, settings: Sequence[Setting], exact: Exact
) -> list[Row]:
    """Rows of the published version, payloads included, for each filter and setting: one of the store, one of
    the engine alone on the same open shard, and for each filter one of the engine's own exact search.

    Store and engine take turns, half of the queries apart: what else the machine does slows both alike, and
    neither finds in the caches what the other read for the same query.
    """
    rows: list[Row] = []
    async with store.open_version(catalog) as reader:
        for name, where in _WHERE.items():
            for setting in settings:
                stored, bare = await _take_turns(reader, queries, setting, where, exact[name])
                asked = {"filter": name, "ef": setting[0], "oversampling": setting[1]}
                rows += [{"who": "store", **asked, **stored}, {"who": "engine", **asked, **bare}]
            asked = {"filter": name, "ef": "exact", "oversampling": 1.0}
            rows.append(
                {"who": "engine", **asked, **_exact_search(_shard(reader), queries, where, exact[name])}
            )
    return rows


async def _take_turns(
    reader: CatalogVersion, queries: Vectors, setting: Setting, where: Filter | None, exact: list[set[int]]
) -> tuple[Row, Row]:
    """Figures of the store and of the engine alone."""
    ef, oversampling = setting
    options = SearchOptions(ef=ef, oversampling=oversampling)
    rescored = edge.QuantizationSearchParams(rescore=True, oversampling=oversampling)
    compressed = reader.info.spec.index.quantization is not Quantization.NONE
    params = edge.SearchParams(hnsw_ef=ef, quantization=rescored if compressed else None)
    shard, count = _shard(reader), len(queries)
    stored, bare = _Answers(exact), _Answers(exact)
    for place in range(-WARM_UP, count):
        store_asks, engine_asks = place % count, (place + count // 2) % count
        start = time.perf_counter()
        answer = await reader.query(queries[store_asks], limit=LIMIT, where=where, options=options)
        stored.add(start, store_asks, {int(scored.item.id) for scored in answer})
        start = time.perf_counter()
        bare.add(start, engine_asks, _search(shard, queries[engine_asks], where, params))
    return stored.row(), bare.row()


def _shard(reader: CatalogVersion) -> edge.EdgeShard:
    """The engine's own handle of the shard that an embedded store's reader has open."""
    shard: edge.EdgeShard = cast(Any, reader)._engine._shard.engine
    return shard


def _exact_search(
    shard: edge.EdgeShard, queries: Vectors, where: Filter | None, exact: list[set[int]]
) -> Row:
    params = edge.SearchParams(exact=True, quantization=edge.QuantizationSearchParams(ignore=True))
    answers = _Answers(exact)
    count = min(EXACT_QUERIES, len(queries))
    for place in range(-WARM_UP, count):
        start = time.perf_counter()
        answers.add(start, place % count, _search(shard, queries[place % count], where, params))
    return answers.row()


def _search(
    shard: edge.EdgeShard, query: Vectors, where: Filter | None, params: edge.SearchParams
) -> set[int]:
    answer = shard.query(
        edge.QueryRequest(
            limit=LIMIT,
            query=edge.Query.Nearest(query.tolist()),
            filter=edge_filter(where),
            params=params,
            with_payload=True,
        )
    )
    return {int((point.payload or {})["id"]) for point in answer}
