"""Recall@10 of compressed vectors against exact search, on clustered points."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vector_store import VectorStore
from vector_store.base import CatalogVersion, SearchOptions
from vector_store.types import Quantization

from ..samples import batch, build, numbered, spec

pytestmark = pytest.mark.service

DIMENSION = 64
COUNT = 1_500
QUERIES = 40
LIMIT = 10

# Least recall@10 with the full vectors' scores for several times as many candidates, and without both
# (binary vectors are always scored again).
BOUNDS = {
    Quantization.INT8: (0.99, 0.90),
    Quantization.PRODUCT: (0.80, 0.40),
    Quantization.BINARY: (0.80, 0.20),
}
OVERSAMPLING = {Quantization.INT8: 2.0, Quantization.PRODUCT: 8.0, Quantization.BINARY: 8.0}


@pytest.fixture(autouse=True)
def compressed_though_small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("edge.config", "edge.writer", "qdrant.config", "qdrant.writer"):
        monkeypatch.setattr(f"vector_store.{module}.INDEXING_THRESHOLD_KB", 40)


def clustered(count: int, seed: int) -> NDArray[np.float32]:
    """Vectors around 30 centres, spread so that neighbours of a vector come from several clusters."""
    centres = np.random.default_rng(0).normal(size=(30, DIMENSION))
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(count, DIMENSION))
    return (centres[generator.integers(30, size=count)] + noise).astype(np.float32)


async def recall(pinned: CatalogVersion, exact: list[list[str]], options: SearchOptions) -> float:
    found = 0
    for query, expected in zip(clustered(QUERIES, seed=2), exact, strict=True):
        answer = await pinned.query(query, limit=LIMIT, options=options)
        found += len({scored.item.id for scored in answer} & set(expected))
    return found / (LIMIT * QUERIES)


@pytest.mark.parametrize("kind", list(BOUNDS))
async def test_recall(store: VectorStore, catalog: str, kind: Quantization) -> None:
    ids, vectors = numbered(COUNT), clustered(COUNT, seed=1)
    chosen = spec({}, dimension=DIMENSION, quantization=kind)
    await build(store, catalog, batch(ids, vectors), chosen)
    async with store.open_version(catalog) as pinned:
        if (await store.check())["engine"] == "qdrant-edge":
            assert await pinned.unindexed() == 0
        exact = []
        for query in clustered(QUERIES, seed=2):
            answer = await pinned.query(query, limit=LIMIT, options=SearchOptions(exact=True))
            unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            order = np.argsort(-(unit @ query), kind="stable")[:LIMIT]
            assert {s.item.id for s in answer} == {ids[row] for row in order}
            exact.append([scored.item.id for scored in answer])
        rescored = await recall(
            pinned, exact, SearchOptions(ef=256, oversampling=OVERSAMPLING[kind], rescore=True)
        )
        raw = await recall(pinned, exact, SearchOptions(ef=256, oversampling=1.0, rescore=False))
    print(f"{kind}: recall@10 {rescored:.3f} rescored, {raw:.3f} compressed")
    least_rescored, least_raw = BOUNDS[kind]
    assert rescored >= least_rescored
    assert raw >= least_raw
    assert rescored >= raw
