"""The mean length of a version's features: measured when it is finished, kept with it, on both engines."""

from __future__ import annotations

import numpy as np
import pytest

from vector_store import VectorStore
from vector_store.types import PointBatch

from ..samples import DIMENSION, spec

pytestmark = pytest.mark.service


def of_lengths(lengths: np.ndarray) -> PointBatch:
    rows = np.random.default_rng(1).normal(size=(len(lengths), DIMENSION))
    rows *= (lengths / np.linalg.norm(rows, axis=1))[:, None]
    ids = [f"item-{number}" for number in range(len(rows))]
    return PointBatch(ids, rows.astype(np.float32), [{} for _ in ids], ["" for _ in ids])


async def test_it_is_the_mean_over_a_sample_and_stays(store: VectorStore, catalog: str) -> None:
    writer = await store.create_version(catalog, spec({}))
    assert writer.info.image_length is None
    lengths = np.random.default_rng(2).uniform(8, 12, 600)
    await writer.upsert(of_lengths(lengths))
    info = await writer.finish()
    assert info.image_length == pytest.approx(lengths.mean(), rel=0.02)
    await store.publish(catalog, info.version)
    published = (await store.get_catalog(catalog)).published
    assert published is not None
    assert published.image_length == info.image_length
    async with store.open_version(catalog) as version:
        assert version.info.image_length == info.image_length
        # What is written later changes nothing: it is the number of when the version was finished.
        await version.upsert(of_lengths(np.full(3, 500.0)))
    (kept,) = await store.list_versions(catalog)
    assert kept.image_length == info.image_length


async def test_a_version_without_items_has_none(store: VectorStore, catalog: str) -> None:
    info = await (await store.create_version(catalog, spec({}))).finish()
    assert info.image_length is None
