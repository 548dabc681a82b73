"""Id, features and payload stay together over runs that fail, go on, and find things changed and renamed."""

from __future__ import annotations

import asyncio
import random
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer import IndexingError, IndexingOptions, index
from indexer.items import SourceItem
from indexer.source import Source, SourceFacts
from tests.indexer.fake_embedder import FakeEmbedder, features_of, serve
from tests.vector_store.local_qdrant import open_local_qdrant
from vector_store.errors import StoreUnavailableError
from vector_store.types import FieldType


class Shop(Source):
    """Items by id: a picture (a number, which several may share) and a price."""

    name = "shop"

    def __init__(self, folder: Path) -> None:
        self.rejects_path = folder / "rejects.jsonl"
        self._folder = folder
        self.items_now: dict[str, tuple[int, int]] = {}

    def survey(self) -> SourceFacts:
        return SourceFacts(len(self.items_now), {"price": FieldType.INTEGER})

    def items(self) -> Any:
        for item_id, (picture, price) in self.items_now.items():
            path = self._folder / item_id
            path.write_bytes(content(picture))
            yield SourceItem(item_id, path, f"image-{item_id}", {"price": price})


def content(picture: int) -> bytes:
    return b"\xff\xd8 %d \xff\xd9" % picture


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    runs=st.lists(
        st.tuples(
            st.dictionaries(
                st.sampled_from([f"i{n}" for n in range(12)]),
                st.tuples(st.integers(0, 9), st.integers(0, 1)),
                min_size=1,
            ),
            st.booleans(),  # --sync
            st.integers(0, 8),  # the write from which on the store is away; 0: it never is
        ),
        min_size=1,
        max_size=4,
    ),
    keep_features=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_association_never_shifts_over_runs(
    runs: list[tuple[dict[str, tuple[int, int]], bool, int]], keep_features: bool, seed: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run_all(Path(folder), runs, keep_features, random.Random(seed)))


async def run_all(
    folder: Path,
    runs: list[tuple[dict[str, tuple[int, int]], bool, int]],
    keep_features: bool,
    chance: random.Random,
) -> None:
    embedder, store, shop = FakeEmbedder(), open_local_qdrant(), Shop(folder)
    away_from = writes = 0

    def failing(open_writer: Any) -> Any:
        async def opened(*arguments: Any) -> Any:
            writer = await open_writer(*arguments)
            upsert = writer.upsert

            async def write(batch: Any) -> None:
                nonlocal writes
                writes += 1
                if away_from and writes >= away_from:
                    if chance.random() < 0.5:
                        await upsert(batch)  # the answer is lost, not the items
                    raise StoreUnavailableError("away")
                await upsert(batch)

            writer.upsert = write
            return writer

        return opened

    store.create_version = failing(store.create_version)  # type: ignore[method-assign]
    store.resume_version = failing(store.resume_version)  # type: ignore[method-assign]
    expected: dict[str, tuple[int, int]] = {}
    async with serve(embedder) as address:
        for items, sync, away in runs:
            shop.items_now, away_from, writes = items, away, 0
            options = IndexingOptions(
                batch_items=2, write_items=2, retry_seconds=0, sync=sync, allow_delete=True,
                keep_features=keep_features, verify_items=20,
            )  # fmt: skip
            if away:
                with suppress(IndexingError):
                    await index(shop, "c", store, address, options)
                away_from = 0
            report = await index(shop, "c", store, address, options)
            assert report.read == report.indexed + report.unchanged == len(items)
            expected = {**({} if sync else expected), **items}
            async with store.reader("c") as reader:
                stored, _ = await reader.scroll(limit=1000, with_features=True)
            assert {item.id: item.payload["price"] for item in stored} == {
                item_id: price for item_id, (_, price) in expected.items()
            }
            for item in stored:
                assert item.image == f"image-{item.id}"
                assert item.features is not None
                wanted = features_of(content(expected[item.id][0]))
                np.testing.assert_allclose(item.features, wanted, rtol=1e-3, atol=1e-4)
    await store.close()
