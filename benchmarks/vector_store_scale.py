"""The embedded store at size: ingest, index, memory, disk, latency and recall, beside the bare engine.

`python -m benchmarks.vector_store_scale --points 1000000 --quantization none int8`: clustered unit vectors
are written, indexed and searched at several `ef`, without a filter and with filters that 10 % and 1 % pass.
Recall@10 is against exact search with numpy over the same vectors. Rows named "bare" are calls of the engine
on the same shard. Resident memory is that of a fresh process that has the version open and has searched it.

The generator: `--clusters` centres, and around each normal noise of `--noise` times the centres' spread, both
with a spread that falls with the dimension i as (1 + i)^-0.5, as that of embeddings does. Clusters overlap,
so that the graph has to be searched and recall moves with `ef`. Queries are drawn as the vectors are. The
exact search by numpy is timed on vectors that lie in memory (4 bytes a dimension and vector).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as edge
from numpy.typing import NDArray

from vector_store import VectorStore, open_store
from vector_store.catalogs import FieldType, IndexOptions, Quantization, VersionSpec
from vector_store.contract import SearchOptions
from vector_store.edge_filter import edge_filter
from vector_store.filters import Filter, MatchAny
from vector_store.points import PointBatch

Vectors = NDArray[np.float32]

CATALOG = "benchmark"
BATCH = 1_000
LIMIT = 10
EXACT_QUERIES = 50

# For 1,000,000 vectors of 512 dimensions with int8.
GOAL_RECALL = 0.98
GOAL_P99_MS = 10.0
GOAL_MEMORY = 0.35
# Of the store over the bare engine, for any number of vectors.
GOAL_OVERHEAD_MS = 1.0

FILTERS: dict[str, Filter | None] = {
    "all": None,
    "10 %": Filter(must=(MatchAny("tenth", (3,)),)),
    "1 %": Filter(must=(MatchAny("hundredth", (7,)),)),
}
COLUMNS = ("quantization", "filter", "ef", "who", "p50_ms", "p99_ms", "recall_at_10")


def blocks(arguments: argparse.Namespace) -> Iterator[Vectors]:
    """Unit vectors around random centres in blocks of BATCH rows, the same ones for every call."""
    centres = centres_of(arguments)
    for first in range(0, arguments.points, BATCH):
        generator = np.random.default_rng([1, first])
        count = min(BATCH, arguments.points - first)
        yield around(centres, count, arguments.noise, generator)


def spread(dimension: int) -> NDArray[np.float64]:
    """Standard deviation of each dimension, float64 (d,)."""
    return np.asarray((1.0 + np.arange(dimension)) ** -0.5, dtype=np.float64)


def centres_of(arguments: argparse.Namespace) -> NDArray[np.float64]:
    """The clusters' centres, float64 (clusters, d)."""
    raw = np.random.default_rng(0).normal(size=(arguments.clusters, arguments.dimension))
    return raw * spread(arguments.dimension)


def around(centres: NDArray[np.float64], count: int, noise: float, generator: np.random.Generator) -> Vectors:
    """`count` unit vectors near `centres`, float32 (count, d)."""
    away = generator.normal(size=(count, centres.shape[1])) * spread(centres.shape[1])
    vectors = centres[generator.integers(len(centres), size=count)] + noise * away
    unit: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def exact_rows(arguments: argparse.Namespace, queries: Vectors) -> dict[str, list[set[int]]]:
    """The rows of the LIMIT nearest vectors of each query, by filter, a block at a time."""
    best: dict[str, tuple[Vectors, NDArray[np.int64]]] = {}
    first = 0
    for block in blocks(arguments):
        scores = queries @ block.T
        rows = np.arange(first, first + len(block))
        for name in FILTERS:
            passing = {"all": rows >= 0, "10 %": rows % 10 == 3, "1 %": rows % 100 == 7}[name]
            kept = scores[:, passing]
            known_rows = np.broadcast_to(rows[passing], kept.shape)
            if name in best:
                kept = np.concatenate([best[name][0], kept], axis=1)
                known_rows = np.concatenate([best[name][1], known_rows], axis=1)
            order = np.argsort(-kept, axis=1)[:, :LIMIT]
            best[name] = (
                np.take_along_axis(kept, order, axis=1),
                np.take_along_axis(known_rows, order, axis=1),
            )
        first += len(block)
    return {name: [set(row.tolist()) for row in best[name][1]] for name in FILTERS}


def time_exact(arguments: argparse.Namespace, queries: Vectors) -> dict[str, float]:
    """Milliseconds of exact search with numpy, one query at a time over vectors in memory."""
    matrix = np.concatenate(list(blocks(arguments)))
    times = []
    for query in queries[:EXACT_QUERIES]:
        start = time.perf_counter()
        scores = matrix @ query
        best = np.argpartition(-scores, LIMIT)[:LIMIT] if len(scores) > LIMIT else np.arange(len(scores))
        _ = best[np.argsort(-scores[best])]
        times.append(time.perf_counter() - start)
    return percentiles(times)


async def build(
    store: VectorStore, arguments: argparse.Namespace, quantization: Quantization
) -> dict[str, Any]:
    """Write and publish the version; what it took."""
    spec = VersionSpec(
        dimension=arguments.dimension,
        model_fingerprint="benchmark",
        schema={"tenth": FieldType.INTEGER, "hundredth": FieldType.INTEGER},
        index=IndexOptions(quantization=quantization, vectors_on_disk=arguments.vectors_on_disk),
    )
    writer = await store.create_version(CATALOG, spec)
    first = 0
    writing = 0.0
    for block in blocks(arguments):
        rows = range(first, first + len(block))
        payloads = [{"tenth": row % 10, "hundredth": row % 100} for row in rows]
        ids = [str(row) for row in rows]
        start = time.perf_counter()
        await writer.upsert(PointBatch(ids, block, payloads, [""] * len(block)))
        writing += time.perf_counter() - start
        first += len(block)
    start = time.perf_counter()
    info = await writer.finish()
    finishing = time.perf_counter() - start
    await store.publish(CATALOG, info.version)
    return {"ingest_points_per_second": first / writing, "index_seconds": finishing}


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    p50, p99 = np.percentile(np.array(seconds) * 1e3, [50, 99])
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


def recall(found: list[set[int]], exact: list[set[int]]) -> float:
    """Share of the exact neighbours that were found."""
    return sum(len(a & b) for a, b in zip(found, exact, strict=True)) / max(1, sum(map(len, exact)))


async def measure_store(
    store: VectorStore, queries: Vectors, efs: list[int], exact: dict[str, list[set[int]]]
) -> list[dict[str, Any]]:
    """Rows of the table for queries through the store, payload included."""
    rows = []
    async with store.reader(CATALOG) as reader:
        for name, where in FILTERS.items():
            for ef in efs:
                options = SearchOptions(ef=ef)
                for query in queries[:50]:
                    await reader.query(query, limit=LIMIT, where=where, options=options)
                times, found = [], []
                for query in queries:
                    start = time.perf_counter()
                    answer = await reader.query(query, limit=LIMIT, where=where, options=options)
                    times.append(time.perf_counter() - start)
                    found.append({int(scored.item.id) for scored in answer})
                measured = percentiles(times) | {"recall_at_10": recall(found, exact[name])}
                rows.append({"filter": name, "ef": ef, "who": "store"} | measured)
    return rows


def measure_bare(
    shard: Path, queries: Vectors, efs: list[int], exact: dict[str, list[set[int]]], compressed: bool
) -> list[dict[str, Any]]:
    """The same with calls of the engine alone, and with the engine's exact search."""
    rows: list[dict[str, Any]] = []
    opened = edge.EdgeShard.load(str(shard))
    quantization = edge.QuantizationSearchParams(rescore=True, oversampling=2.0) if compressed else None
    for name, where in FILTERS.items():
        for ef in [*efs, 0]:
            params = edge.SearchParams(hnsw_ef=ef or None, exact=ef == 0, quantization=quantization)
            if ef == 0:
                params = edge.SearchParams(
                    exact=True, quantization=edge.QuantizationSearchParams(ignore=True)
                )
            times, found = [], []
            for query in queries:
                start = time.perf_counter()
                request = edge.QueryRequest(
                    limit=LIMIT,
                    query=edge.Query.Nearest(query.tolist()),
                    filter=edge_filter(where),
                    params=params,
                    with_payload=True,
                )
                answer = opened.query(request)
                times.append(time.perf_counter() - start)
                found.append({int((point.payload or {})["id"]) for point in answer})
            measured = percentiles(times) | {"recall_at_10": recall(found, exact[name])}
            rows.append({"filter": name, "ef": ef or "exact", "who": "bare"} | measured)
    opened.close()
    return rows


def resident_memory(root: str, queries: Vectors, answer: Any) -> None:
    """Run in a fresh process: memory before and after opening and searching the version, in bytes."""

    async def run() -> dict[str, int]:
        before = _memory()
        async with open_store(f"edge://{root}") as store, store.reader(CATALOG) as reader:
            for query in queries:
                await reader.query(query, limit=LIMIT)
            after = _memory()
        return {name: after[name] - before[name] for name in after}

    answer.put(asyncio.run(run()))


def _memory() -> dict[str, int]:
    """Resident bytes: `anonymous` are the process's own, `file` mapped files, which the system may drop."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return {"anonymous": 1024 * int(kilobytes["RssAnon"]), "file": 1024 * int(kilobytes["RssFile"])}


def disk_bytes(folder: Path) -> int:
    """Bytes in use below a folder; sparse files count with their blocks."""
    return sum(512 * path.stat().st_blocks for path in folder.rglob("*") if path.is_file())


async def one(
    arguments: argparse.Namespace,
    quantization: Quantization,
    queries: Vectors,
    exact: dict[str, list[set[int]]],
) -> dict[str, Any]:
    """Build and measure one version in a folder of its own."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as root:
        async with open_store(f"edge://{root}") as store:
            built = await build(store, arguments, quantization)
            rows = await measure_store(store, queries, arguments.ef, exact)
        version = Path(root, "catalogs", CATALOG, "versions", "v0001")
        built["disk_bytes"] = disk_bytes(version)
        spawn = multiprocessing.get_context("spawn")
        answer = spawn.Queue()
        process = spawn.Process(target=resident_memory, args=(root, queries, answer))
        process.start()
        built["resident_bytes"] = await asyncio.to_thread(answer.get, True, 600)
        process.join()
        compressed = quantization not in (Quantization.NONE, Quantization.AUTO)
        rows += measure_bare(version / "shard", queries, arguments.ef, exact, compressed)
    for row in rows:
        row["quantization"] = str(quantization)
    return built | {"quantization": str(quantization), "queries": rows}


def print_result(result: dict[str, Any], vector_bytes: int) -> None:
    """One version's figures as text."""
    memory = result["resident_bytes"]
    print(
        f"\n{result['quantization']}: ingest {result['ingest_points_per_second']:,.0f} points/s, "
        f"index {result['index_seconds']:.1f} s, disk {result['disk_bytes'] / 2**20:,.0f} MiB, "
        f"memory {memory['anonymous'] / 2**20:,.0f} MiB own + {memory['file'] / 2**20:,.0f} MiB mapped; "
        f"fp32 vectors are {vector_bytes / 2**20:,.0f} MiB"
    )
    print("  ".join(f"{column:>12}" for column in COLUMNS))
    for row in result["queries"]:
        cells = (f"{row[c]:.3f}" if isinstance(row[c], float) else str(row[c]) for c in COLUMNS)
        print("  ".join(f"{cell:>12}" for cell in cells))


def goals(result: dict[str, Any], vector_bytes: int) -> list[str]:
    """What was wanted beside what was measured, one line each."""
    rows = result["queries"]
    stored = [row for row in rows if row["who"] == "store" and row["filter"] == "all"]
    good = [row for row in stored if row["recall_at_10"] >= GOAL_RECALL]
    if good:
        row = min(good, key=lambda row: row["p99_ms"])
        word = "met" if row["p99_ms"] <= GOAL_P99_MS else "NOT met"
    else:
        row, word = max(stored, key=lambda row: row["recall_at_10"]), "NOT met"
    memory = result["resident_bytes"]["anonymous"] / vector_bytes
    bare = {(row["filter"], row["ef"]): row["p50_ms"] for row in rows if row["who"] == "bare"}
    over = max(row["p50_ms"] - bare[row["filter"], row["ef"]] for row in rows if row["who"] == "store")
    return [
        f"goal recall@10 >= {GOAL_RECALL} at p99 <= {GOAL_P99_MS:.0f} ms: {word} "
        f"({row['recall_at_10']:.3f} at {row['p99_ms']:.2f} ms, ef {row['ef']})",
        f"goal own memory <= {GOAL_MEMORY} of fp32 vectors: {'met' if memory <= GOAL_MEMORY else 'NOT met'} "
        f"({memory:.2f})",
        f"goal store <= {GOAL_OVERHEAD_MS:.0f} ms over the bare engine, p50: "
        f"{'met' if over <= GOAL_OVERHEAD_MS else 'NOT met'} ({over:.2f} ms at most)",
    ]


async def run(arguments: argparse.Namespace) -> None:
    queries = around(centres_of(arguments), arguments.queries, arguments.noise, np.random.default_rng(2))
    exact = exact_rows(arguments, queries)
    timed = time_exact(arguments, queries)
    print(
        f"{arguments.points:,} x {arguments.dimension}, {arguments.clusters} clusters, "
        f"noise {arguments.noise}"
    )
    print(f"exact search with numpy: p50 {timed['p50_ms']:.2f} ms, p99 {timed['p99_ms']:.2f} ms")
    print("goals are for 1,000,000 x 512 with int8")
    results = []
    for name in arguments.quantization:
        result = await one(arguments, Quantization(name), queries, exact)
        vector_bytes = 4 * arguments.dimension * arguments.points
        print_result(result, vector_bytes)
        result["goals"] = goals(result, vector_bytes)
        print("\n".join(result["goals"]))
        results.append(result)
    if arguments.json:
        facts = {key: value for key, value in vars(arguments).items() if key not in ("json", "folder")}
        document = {"arguments": facts, "cpus": os.cpu_count(), "numpy_exact": timed, "results": results}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--clusters", type=int, default=500)
    parser.add_argument("--noise", type=float, default=1.0, help="spread around a centre; more is harder")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--ef", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument(
        "--quantization", nargs="+", choices=[str(q) for q in Quantization], default=["none", "int8"]
    )
    parser.add_argument("--vectors-on-disk", action="store_true")
    parser.add_argument("--folder", help="where the temporary store is put; the default temporary folder")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    asyncio.run(run(parser.parse_args()))
