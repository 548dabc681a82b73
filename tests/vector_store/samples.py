"""Items, versions and filters that the tests of the store share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cir.fields import FieldType
from vector_store import VectorStore
from vector_store.types import IndexOptions, PointBatch, VersionInfo, VersionSpec

DIMENSION = 8

SCHEMA = {
    "colour": FieldType.KEYWORD,
    "size": FieldType.INTEGER,
    "price": FieldType.FLOAT,
    "sale": FieldType.BOOL,
    "added": FieldType.DATETIME,
    "shop": FieldType.GEO,
    "title": FieldType.TEXT,
    # A name with everything a path language could trip over.
    'od.d "näme" [0] %22\\': FieldType.KEYWORD,
}
ODD = 'od.d "näme" [0] %22\\'


def spec(
    schema: Mapping[str, FieldType] | None = None, *, dimension: int = DIMENSION, **index: Any
) -> VersionSpec:
    """A specification over the shared schema."""
    return VersionSpec(
        dimension=dimension,
        model_fingerprint="fp-1",
        schema=SCHEMA if schema is None else schema,
        model={"architecture": "ViT-B-32"},
        index=IndexOptions(**index),
    )


def features(count: int, *, dimension: int = DIMENSION, seed: int = 0) -> NDArray[np.float32]:
    """Raw features of various lengths, float32 (count, dimension)."""
    generator = np.random.default_rng(seed)
    raw = generator.normal(size=(count, dimension)) * generator.uniform(0.1, 10.0, size=(count, 1))
    return raw.astype(np.float32)


def batch(
    ids: Sequence[str],
    vectors: NDArray[np.float32] | None = None,
    payloads: Sequence[Mapping[str, Any]] | None = None,
) -> PointBatch:
    """Items with the given ids, random features and image locations made from the ids."""
    return PointBatch(
        ids=ids,
        features=features(len(ids)) if vectors is None else vectors,
        payloads=[{}] * len(ids) if payloads is None else payloads,
        images=[f"{item_id}.jpg" for item_id in ids],
    )


def numbered(count: int) -> list[str]:
    """Ids `i000`, `i001`, ..."""
    return [f"i{number:03d}" for number in range(count)]


def storage_of(shard: Path) -> set[str]:
    """How the segments of an embedded shard keep full vectors, in the engine's words; "InRam..." is loaded
    when the shard is opened."""
    segments = (json.loads(path.read_text()) for path in shard.rglob("segment.json"))
    return {segment["config"]["vector_data"][""]["storage_type"] for segment in segments}


async def build(
    store: VectorStore,
    catalog: str,
    points: PointBatch,
    version_spec: VersionSpec | None = None,
    *,
    publish: bool = True,
    keep: int = 3,
) -> VersionInfo:
    """A finished (and published) version with the given items.

    Without a specification its schema has the fields that occur in the items: every index of an embedded
    version costs several synchronous writes.
    """
    if version_spec is None:
        occurring = {name for payload in points.payloads for name in payload}
        version_spec = spec({name: kind for name, kind in SCHEMA.items() if name in occurring})
    writer = await store.create_version(catalog, version_spec)
    await writer.upsert(points)
    info = await writer.finish()
    return await store.publish(catalog, info.version, keep=keep) if publish else info
