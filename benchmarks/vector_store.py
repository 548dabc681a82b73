"""The embedded store beside the bare engine, in one run.

`python -m benchmarks.vector_store --points 100000 --dimension 512`: clustered unit vectors are written,
indexed and searched; printed are the ingest rate, the time to build the index, p50 and p99 of a query
through the store's layer and of the bare engine call on the same shard, and recall@10 against exact search.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from qdrant_edge import EdgeShard, Query, QueryRequest, SearchParams

from vector_store import VectorStore, open_store
from vector_store.catalogs import FieldType, IndexOptions, Quantization, VersionSpec
from vector_store.contract import SearchOptions
from vector_store.points import PointBatch
from vector_store.query_window import DEFAULT_EF

BATCH = 1_000


def clustered(
    count: int, dimension: int, clusters: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Unit vectors around random centres, float32 (count, dimension)."""
    centres = generator.normal(size=(clusters, dimension))
    vectors = centres[generator.integers(clusters, size=count)] + 0.7 * generator.normal(
        size=(count, dimension)
    )
    unit: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def report(figures: dict[str, float], name: str, seconds: list[float], what: str) -> None:
    """Print and keep the percentiles of one kind of call."""
    ordered = sorted(seconds)
    p50 = 1e3 * statistics.median(ordered)
    p99 = 1e3 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    figures |= {f"{name}_p50_ms": p50, f"{name}_p99_ms": p99}
    print(f"{name:9} p50 {p50:.2f} ms, p99 {p99:.2f} ms {what}")


async def build(
    store: VectorStore, vectors: NDArray[np.float32], quantization: Quantization
) -> dict[str, float]:
    spec = VersionSpec(
        dimension=vectors.shape[1],
        model_fingerprint="benchmark",
        schema={"label": FieldType.KEYWORD},
        index=IndexOptions(quantization=quantization),
    )
    writer = await store.create_version("benchmark", spec)
    start = time.perf_counter()
    for first in range(0, len(vectors), BATCH):
        part = vectors[first : first + BATCH]
        ids = [f"item-{row}" for row in range(first, first + len(part))]
        payloads = [{"label": f"l{row % 50}"} for row in range(first, first + len(part))]
        await writer.upsert(PointBatch(ids, part, payloads, [f"{item_id}.jpg" for item_id in ids]))
    written = time.perf_counter()
    info = await writer.finish()
    finished = time.perf_counter()
    await store.publish("benchmark", info.version)
    print(f"ingest    {len(vectors) / (written - start):,.0f} points/s ({written - start:.1f} s)")
    print(f"finish    {finished - written:.1f} s (index and flush)")
    return {
        "ingest_points_per_second": len(vectors) / (written - start),
        "finish_seconds": finished - written,
    }


async def measure(
    store: VectorStore, queries: NDArray[np.float32], limit: int, figures: dict[str, float]
) -> None:
    found: list[set[str]] = []
    times = []
    hits = 0
    async with store.reader("benchmark") as reader:
        for query in queries:
            await reader.query(query, limit=limit)
        for query in queries:
            start = time.perf_counter()
            answer = await reader.query(query, limit=limit)
            times.append(time.perf_counter() - start)
            found.append({s.item.id for s in answer[:10]})
        report(figures, "query", times, f"through the store, limit {limit}, with payload")
        exact_times = []
        for query, approximate in zip(queries, found, strict=True):
            start = time.perf_counter()
            exact = await reader.query(query, limit=10, options=SearchOptions(exact=True))
            exact_times.append(time.perf_counter() - start)
            hits += len(approximate & {s.item.id for s in exact})
        report(figures, "exact", exact_times, "through the store, limit 10")
    figures["recall_at_10"] = hits / (10 * len(queries))
    print(f"recall@10 {figures['recall_at_10']:.4f} against exact")


def measure_bare(
    shard_path: Path, queries: NDArray[np.float32], limit: int, figures: dict[str, float]
) -> None:
    shard = EdgeShard.load(str(shard_path))
    for with_payload in (True, False):
        times = []
        for query in queries:
            start = time.perf_counter()
            shard.query(
                QueryRequest(
                    limit=limit,
                    query=Query.Nearest(query.tolist()),
                    params=SearchParams(hnsw_ef=DEFAULT_EF),
                    with_payload=with_payload,
                )
            )
            times.append(time.perf_counter() - start)
        name = "bare" if with_payload else "bare_ids"
        report(figures, name, times, f"engine call, limit {limit}, payload {with_payload}")
    shard.close()


async def run(arguments: argparse.Namespace) -> None:
    generator = np.random.default_rng(0)
    vectors = clustered(
        arguments.points + arguments.queries, arguments.dimension, arguments.clusters, generator
    )
    queries, vectors = vectors[: arguments.queries], vectors[arguments.queries :]
    print(
        f"{len(vectors):,} x {arguments.dimension}, {arguments.clusters} clusters, {arguments.quantization}"
    )
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        store = open_store(f"edge://{folder}")
        figures = await build(store, vectors, Quantization(arguments.quantization))
        await measure(store, queries, arguments.limit, figures)
        await store.close()
        measure_bare(
            Path(folder, "catalogs/benchmark/versions/v0001/shard"), queries, arguments.limit, figures
        )
    if arguments.json:
        facts = {key: value for key, value in vars(arguments).items() if key not in ("json", "folder")}
        arguments.json.write_text(json.dumps({"arguments": facts, **figures}, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--points", type=int, default=50_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--clusters", type=int, default=500)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--quantization", choices=[str(q) for q in Quantization], default="auto")
    parser.add_argument(
        "--folder", help="where to put the temporary store; the default temporary folder if absent"
    )
    parser.add_argument("--json", type=Path, help="write the figures here too")
    asyncio.run(run(parser.parse_args()))
