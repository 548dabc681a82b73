"""Id, features, payload and picture of an item stay together, whatever fails on the way."""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cir.common.v1 import errors_pb2
from indexer import IndexingOptions, index
from indexer.items import Reject, SourceItem
from indexer.source import Source, SourceFacts
from service_runtime.errors import ServiceError
from tests.indexer.fake_embedder import FakeEmbedder, features_of, serve
from tests.vector_store.local_qdrant import open_local_qdrant
from vector_store.errors import StoreUnavailableError
from vector_store.types import FieldType

FATES = ["good", "missing", "empty", "too large", "unreadable", "no direction", "bad payload", "same id"]


class DealtSource(Source):
    """Items of given fates; the content of each is its own id."""

    name = "dealt"

    def __init__(self, folder: Path, fates: list[str]) -> None:
        self.rejects_path = folder / "rejects.jsonl"
        self._fates = fates
        self._folder = folder
        for number, fate in enumerate(fates):
            if fate != "missing":
                content = {"empty": b"", "too large": bytes(2000)}.get(fate, f"{fate} {number}".encode())
                (folder / str(number)).write_bytes(content)

    def survey(self) -> SourceFacts:
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
    assert len((folder / "rejects.jsonl").read_text().splitlines()) == report.rejected
    async with store.reader("c") as reader:
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
