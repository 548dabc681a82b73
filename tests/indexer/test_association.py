"""Every item keeps its own vector and payload, whatever fails in between, in one run and over many."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cir.common.v1 import errors_pb2
from cir.fields import FieldType
from indexer import IndexingError, IndexingOptions, index
from indexer.rejects import Reject
from indexer.sources.base import Source, SourceFacts, SourceItem
from service_runtime.errors import ServiceError
from tests.indexer.fake_embedder import FakeEmbedder, features_of, serve
from tests.vector_store.local_qdrant import open_local_qdrant
from vector_store.errors import StoreUnavailableError

pytestmark = pytest.mark.service

FATES = ["good", "missing", "empty", "too large", "unreadable", "no direction", "bad payload", "same id"]


class DealtSource(Source):
    """Items of given fates; the content of each is its own id."""

    name = "dealt"

    def __init__(self, folder: Path, fates: list[str]) -> None:
        self.beside = folder / "source"
        self._fates = fates
        self._folder = folder
        for number, fate in enumerate(fates):
            if fate != "missing":
                content = {"empty": b"", "too large": bytes(2000)}.get(fate, f"{fate} {number}".encode())
                (folder / str(number)).write_bytes(content)

    def survey(self, columns: Sequence[str] = ()) -> SourceFacts:
        return SourceFacts(len(self._fates), {"n": FieldType.INTEGER})

    def items(self) -> Any:
        for number, fate in enumerate(self._fates):
            item_id = "item-0" if fate == "same id" else f"item-{number}"
            payload = {"n": "bad" if fate == "bad payload" else number}
            yield SourceItem(item_id, self._folder / str(number), f"image-{number}", payload)
        yield Reject("", "", "ROW_MALFORMED", "always one")


def item_fault(content: bytes) -> errors_pb2.ErrorReason.ValueType | None:
    if content.startswith(b"unreadable"):
        return errors_pb2.IMAGE_UNREADABLE
    return errors_pb2.NOT_FINITE if content.startswith(b"no direction") else None


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    fates=st.lists(st.sampled_from(FATES), max_size=40),
    batch_items=st.integers(1, 7),
    in_flight=st.integers(1, 4),
    write_items=st.integers(1, 9),
    faults=st.lists(st.sampled_from([errors_pb2.NOT_READY, errors_pb2.OVERLOADED]), max_size=3),
    seed=st.integers(0, 1000),
)
def test_association_never_shifts(
    fates: list[str],
    batch_items: int,
    in_flight: int,
    write_items: int,
    faults: list[errors_pb2.ErrorReason.ValueType],
    seed: int,
) -> None:
    options = IndexingOptions(
        batch_items=batch_items, calls_in_flight=in_flight, write_items=write_items, max_reject_share=1.0
    )
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run_and_check(Path(folder), ["good", *fates], options, faults, random.Random(seed)))


async def run_and_check(
    folder: Path,
    fates: list[str],
    options: IndexingOptions,
    faults: list[errors_pb2.ErrorReason.ValueType],
    chance: random.Random,
) -> None:
    embedder = FakeEmbedder()
    embedder.limits.max_image_bytes = 1000
    embedder.item_fault = item_fault

    async def overtake(calls: int) -> None:
        if calls <= len(faults):
            embedder.call_faults.append(ServiceError(faults[calls - 1], "later", retry_after=0.001))
        await asyncio.sleep(chance.choice([0, 0, 0.002, 0.004]))

    embedder.before_answer = overtake
    store = open_local_qdrant()
    fail_once_in_a_while(store, chance)
    async with serve(embedder) as address:
        report = await index(DealtSource(folder, fates), "c", store, address, options)
    good = {f"item-{number}": number for number, fate in enumerate(fates) if fate == "good"}
    assert (report.read, report.indexed) == (len(fates) + 1, len(good))
    assert report.read == report.indexed + report.rejected
    assert len((folder / "source.c.rejects.jsonl").read_text().splitlines()) == report.rejected
    async with store.open_version("c") as reader:
        items, _ = await reader.scroll(limit=1000, with_features=True)
    assert {item.id for item in items} == set(good)
    for item in items:
        number = good[item.id]
        assert item.payload == {"n": number}
        assert item.image == f"image-{number}"
        assert item.features is not None
        np.testing.assert_allclose(item.features, features_of(f"good {number}".encode()), rtol=1e-3)
    await store.close()


def fail_once_in_a_while(store: Any, chance: random.Random) -> None:
    create = store.create_version

    async def create_version(*arguments: Any) -> Any:
        writer = await create(*arguments)
        upsert = writer.upsert

        async def flaky(batch: Any) -> None:
            before = chance.random()
            if before < 0.1:
                raise StoreUnavailableError("away")
            await upsert(batch)
            if before < 0.2:
                raise StoreUnavailableError("the answer was lost")

        writer.upsert = flaky
        return writer

    store.create_version = create_version


class Shop(Source):
    """Items by id: an image (a number, which several may share) and a price."""

    name = "shop"

    def __init__(self, folder: Path) -> None:
        self.beside = folder / "source"
        self._folder = folder
        self.items_now: dict[str, tuple[int, int]] = {}

    def survey(self, columns: Sequence[str] = ()) -> SourceFacts:
        return SourceFacts(len(self.items_now), {"price": FieldType.INTEGER})

    def items(self) -> Any:
        for item_id, (image, price) in self.items_now.items():
            path = self._folder / item_id
            path.write_bytes(content(image))
            yield SourceItem(item_id, path, f"image-{item_id}", {"price": price})


def content(image: int) -> bytes:
    return b"\xff\xd8 %d \xff\xd9" % image


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    runs=st.lists(
        st.tuples(
            st.dictionaries(
                st.sampled_from([f"i{n}" for n in range(12)]),
                st.tuples(st.integers(0, 9), st.integers(0, 1)),
                min_size=1,
            ),
            st.booleans(),  # `sync`
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
            async with store.open_version("c") as reader:
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
