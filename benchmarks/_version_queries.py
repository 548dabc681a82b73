"""Queries of one version through the store and through the bare engine: latency and recall."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as edge

from benchmarks._clusters import Vectors
from vector_store import VectorStore
from vector_store.contract import SearchOptions
from vector_store.edge_filter import edge_filter
from vector_store.filters import Filter, MatchAny

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

Exact = dict[str, list[set[int]]]
Row = dict[str, Any]


def payload(row: int) -> dict[str, int]:
    """The fields that the filters look at."""
    return {"tenth": row % 10, "hundredth": row % 100}


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    p50, p99 = np.percentile(np.array(seconds) * 1e3, [50, 99])
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


async def through_store(
    store: VectorStore, catalog: str, queries: Vectors, efs: Sequence[int], exact: Exact
) -> list[Row]:
    """A row for each filter and `ef`, payloads included."""
    rows = []
    async with store.reader(catalog) as reader:
        for name, where in _WHERE.items():
            for ef in efs:
                options = SearchOptions(ef=ef)
                for query in queries[:WARM_UP]:
                    await reader.query(query, limit=LIMIT, where=where, options=options)
                times, found = [], []
                for query in queries:
                    start = time.perf_counter()
                    answer = await reader.query(query, limit=LIMIT, where=where, options=options)
                    times.append(time.perf_counter() - start)
                    found.append({int(scored.item.id) for scored in answer})
                rows.append(_row("store", name, ef, times, found, exact))
    return rows


def through_engine(
    shard: Path, queries: Vectors, efs: Sequence[int], exact: Exact, *, compressed: bool
) -> list[Row]:
    """The same with calls of the engine alone on the shard, and with the engine's exact search."""
    rows: list[Row] = []
    opened = edge.EdgeShard.load(str(shard))
    rescored = None
    if compressed:
        rescored = edge.QuantizationSearchParams(rescore=True, oversampling=SearchOptions().oversampling)
    uncompressed = edge.QuantizationSearchParams(ignore=True)
    for name, where in _WHERE.items():
        plans: list[tuple[int | str, edge.SearchParams]] = [
            (ef, edge.SearchParams(hnsw_ef=ef, quantization=rescored)) for ef in efs
        ]
        plans.append(("exact", edge.SearchParams(exact=True, quantization=uncompressed)))
        for ef, params in plans:

            def search(query: Vectors, where: Filter | None = where, params: Any = params) -> set[int]:
                answer = opened.query(
                    edge.QueryRequest(
                        limit=LIMIT,
                        query=edge.Query.Nearest(query.tolist()),
                        filter=edge_filter(where),
                        params=params,
                        with_payload=True,
                    )
                )
                return {int((point.payload or {})["id"]) for point in answer}

            asked = queries if ef != "exact" else queries[:EXACT_QUERIES]
            for query in asked[:WARM_UP]:
                search(query)
            times, found = [], []
            for query in asked:
                start = time.perf_counter()
                ids = search(query)
                times.append(time.perf_counter() - start)
                found.append(ids)
            rows.append(_row("engine", name, ef, times, found, exact))
    opened.close()
    return rows


def _row(who: str, name: str, ef: int | str, times: list[float], found: list[set[int]], exact: Exact) -> Row:
    known = exact[name][: len(found)]
    recall = sum(len(a & b) for a, b in zip(found, known, strict=True)) / max(1, sum(map(len, known)))
    return {"who": who, "filter": name, "ef": ef, **percentiles(times), "recall_at_10": recall}
