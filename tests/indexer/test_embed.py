"""The embedder as the indexer meets it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cir.common.v1 import errors_pb2
from cir.embedder.v1 import embedder_pb2 as pb
from cir.vectors import pack
from indexer.embed import open_embedder
from indexer.errors import EmbedderFailed
from indexer.items import EmbeddedItem, LoadedItem
from indexer.options import IndexingOptions
from indexer.rejects import Reject
from indexer.sources.base import SourceItem
from service_runtime.errors import ServiceError
from tests.indexer.fake_embedder import DIMENSION, FakeEmbedder, features_of
from tests.indexer.helpers import jpeg

pytestmark = pytest.mark.service

OPTIONS = IndexingOptions(connect_seconds=1, retry_seconds=1)


def batch(*contents: bytes) -> list[LoadedItem]:
    return [
        LoadedItem(SourceItem(f"i{n}", Path("/x"), f"i{n}.jpg", {"n": n}), content)
        for n, content in enumerate(contents)
    ]


async def test_each_answer_stays_with_its_item(address: str, embedder: FakeEmbedder) -> None:
    items = batch(jpeg(1), b"text", jpeg(2), jpeg(3)[:-5])
    async with open_embedder(address, OPTIONS) as client:
        results = await client.embed(items)
    for item, result in zip(items, results, strict=True):
        if isinstance(result, EmbeddedItem):
            assert result.item is item.item
            np.testing.assert_array_equal(result.features, features_of(item.content))
        else:
            assert (result.id, result.image, result.bytes) == (
                item.item.id,
                item.item.image,
                len(item.content),
            )
    assert [getattr(result, "reason", "") for result in results] == [
        "",
        "IMAGE_UNREADABLE",
        "",
        "IMAGE_TRUNCATED",
    ]
    assert embedder.batches[0].priority == pb.PRIORITY_BULK


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
async def test_features_without_a_direction_are_rejects(
    address: str, embedder: FakeEmbedder, value: float
) -> None:
    def spoil(response: pb.EmbedImagesResponse) -> None:
        rows = np.ones((2, DIMENSION), dtype=np.float32)
        rows[1] = value
        response.features.CopyFrom(pack(rows))

    embedder.break_answer = spoil
    async with open_embedder(address, OPTIONS) as client:
        good, bad = await client.embed(batch(jpeg(1), jpeg(2)))
    assert isinstance(good, EmbeddedItem)
    assert isinstance(bad, Reject)
    assert bad.reason == "NOT_FINITE"


async def test_a_reason_of_a_newer_embedder_is_kept_by_number(address: str, embedder: FakeEmbedder) -> None:
    def spoil(response: pb.EmbedImagesResponse) -> None:
        response.errors.append(errors_pb2.ItemError(index=0, code=3, message="new"))
        response.errors[0].reason = 999  # type: ignore[assignment]  # open enumeration on the wire

    embedder.break_answer = spoil
    async with open_embedder(address, OPTIONS) as client:
        (result,) = await client.embed(batch(jpeg(1)))
    assert isinstance(result, Reject)
    assert result.reason == "REASON_999"


async def test_items_that_were_put_off_are_sent_again(address: str, embedder: FakeEmbedder) -> None:
    left = [1]

    def busy_once(content: bytes) -> errors_pb2.ErrorReason.ValueType | None:
        return errors_pb2.OVERLOADED if left and left.pop() else None

    embedder.item_fault = busy_once
    async with open_embedder(address, OPTIONS) as client:
        results = await client.embed(batch(jpeg(1), jpeg(2)))
    assert all(isinstance(result, EmbeddedItem) for result in results)
    assert len(embedder.batches) == 2


def drop_a_row(response: pb.EmbedImagesResponse) -> None:
    response.features.CopyFrom(pack(np.ones((1, DIMENSION), dtype=np.float32)))


def other_dimension(response: pb.EmbedImagesResponse) -> None:
    response.features.CopyFrom(pack(np.ones((2, DIMENSION + 1), dtype=np.float32)))


def other_model(response: pb.EmbedImagesResponse) -> None:
    response.features.model_fingerprint = "another"


def error_without_item(response: pb.EmbedImagesResponse) -> None:
    response.errors.append(errors_pb2.ItemError(index=2, code=3))


@pytest.mark.parametrize("broken", [drop_a_row, other_dimension, other_model, error_without_item])
async def test_answers_that_break_the_contract_end_the_run(
    address: str, embedder: FakeEmbedder, broken: object
) -> None:
    embedder.break_answer = broken  # type: ignore[assignment]
    async with open_embedder(address, OPTIONS) as client:
        with pytest.raises(EmbedderFailed, match=address):
            await client.embed(batch(jpeg(1), jpeg(2)))
    assert len(embedder.batches) == 1


async def test_a_message_over_the_limit_is_not_tried_again(address: str, embedder: FakeEmbedder) -> None:
    async with open_embedder(address, OPTIONS) as client:
        with pytest.raises(EmbedderFailed, match="RESOURCE_EXHAUSTED"):
            await client.embed(batch(bytes(65 * 1024 * 1024)))
    assert not embedder.batches


async def test_a_wait_longer_than_the_time_allowed_ends_the_run(address: str, embedder: FakeEmbedder) -> None:
    async with open_embedder(address, OPTIONS) as client:
        embedder.call_faults = [ServiceError(errors_pb2.OVERLOADED, "queue is full", retry_after=3600)]
        with pytest.raises(EmbedderFailed, match="queue is full"):
            await client.embed(batch(jpeg(1)))


async def test_an_embedder_without_a_model_is_refused(address: str, embedder: FakeEmbedder) -> None:
    embedder.fingerprint = ""
    with pytest.raises(EmbedderFailed, match="which model"):
        async with open_embedder(address, OPTIONS):
            pass
