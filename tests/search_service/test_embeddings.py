"""Searches that want the same embedding at the same moment, over real gRPC."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import numpy as np
import pytest

from cir.common.v1 import errors_pb2
from cir.search.v1.search_pb2 import Reference, SearchRequest, SearchResponse, Turn
from search_service.embedder_client import EmbedderClient
from search_service.embeddings import SharedEmbeddings
from search_service.metrics import SearchMetrics
from search_service.query import TextCut
from service_runtime.errors import ServiceError
from tests.refused import refused
from tests.search_service.conftest import Stack
from tests.search_service.neighbours import CONTEXT, FINGERPRINT, UNREADABLE, FakeEmbedder, features_of, start

pytestmark = pytest.mark.service

SHOP = "catalogs/shop"
BY_TEXT = SearchRequest(parent=SHOP, turns=[Turn(text="red")])
BY_PICTURE = SearchRequest(parent=SHOP, turns=[Turn(reference=Reference(image=b"picture 3"))])


async def reach_the_gate(embedder: FakeEmbedder, calls: int) -> None:
    for _ in range(calls):
        await asyncio.wait_for(embedder.arrivals.get(), 10)


@pytest.mark.parametrize("request_", [BY_TEXT, BY_PICTURE], ids=["text", "picture"])
async def test_identical_searches_at_the_same_moment_embed_once(
    stack: Stack, request_: SearchRequest
) -> None:
    stack.embedder.gate = asyncio.Event()
    calls = [stack.search.Search(request_) for _ in range(8)]
    waiting = asyncio.gather(*calls)
    await reach_the_gate(stack.embedder, 1)
    await asyncio.sleep(0.2)
    stack.embedder.gate.set()
    answers: list[SearchResponse] = await waiting
    assert stack.embedder.texts + stack.embedder.images == 1
    assert len({answer.results[0].item.id for answer in answers}) == 1


async def test_a_call_that_goes_leaves_the_embedding_to_the_others(stack: Stack) -> None:
    stack.embedder.gate = asyncio.Event()
    first = stack.search.Search(BY_TEXT)
    begun = asyncio.ensure_future(refused(stack.search.Search(BY_TEXT, timeout=0.4)))
    await reach_the_gate(stack.embedder, 1)
    second = stack.search.Search(BY_TEXT)
    staying = asyncio.ensure_future(asyncio.wait_for(second, 10))
    await asyncio.sleep(0.1)
    first.cancel()
    assert (await begun).code is grpc.StatusCode.DEADLINE_EXCEEDED
    stack.embedder.gate.set()
    assert len((await staying).results) == 10
    assert not stack.embedder.cancelled.is_set()


async def test_an_embedding_that_nobody_waits_for_is_cancelled_at_the_embedder(stack: Stack) -> None:
    stack.embedder.gate = asyncio.Event()
    assert (await refused(stack.search.Search(BY_TEXT, timeout=0.3))).code.name == "DEADLINE_EXCEEDED"
    await asyncio.wait_for(stack.embedder.cancelled.wait(), 10)
    stack.embedder.gate = None
    assert len((await stack.search.Search(BY_TEXT)).results) == 10


async def test_errors_are_shared_but_not_remembered(stack: Stack) -> None:
    stack.embedder.gate = asyncio.Event()
    stack.embedder.refuse = ServiceError(errors_pb2.OVERLOADED, "the queue is full", retry_after=0.5)
    waiting = [asyncio.ensure_future(refused(stack.search.Search(BY_TEXT))) for _ in range(3)]
    await reach_the_gate(stack.embedder, 1)
    stack.embedder.gate.set()
    assert {(await refusal).reason for refusal in waiting} == {"OVERLOADED"}
    stack.embedder.refuse = None
    assert len((await stack.search.Search(BY_TEXT)).results) == 10


async def test_a_bad_picture_is_named_by_its_own_field_in_every_call(stack: Stack) -> None:
    stack.embedder.gate = asyncio.Event()
    bad = Turn(reference=Reference(image=UNREADABLE))
    good = Turn(reference=Reference(image=b"picture 3"))
    first = asyncio.ensure_future(refused(stack.search.Search(SearchRequest(parent=SHOP, turns=[bad]))))
    await reach_the_gate(stack.embedder, 1)
    second = asyncio.ensure_future(
        refused(stack.search.Search(SearchRequest(parent=SHOP, turns=[good, bad])))
    )
    alone = asyncio.ensure_future(asyncio.wait_for(stack.search.Search(BY_PICTURE), 10))
    await reach_the_gate(stack.embedder, 1)
    stack.embedder.gate.set()
    assert [(await refusal).field for refusal in (first, second)] == [
        "turns[0].reference.image",
        "turns[1].reference.image",
    ]
    assert (await alone).results[0].item.id == "item-3"


async def test_texts_are_remembered_and_pictures_are_not(stack: Stack) -> None:
    for _ in range(3):
        await stack.search.Search(BY_TEXT)
        await stack.search.Search(BY_PICTURE)
    assert (stack.embedder.texts, stack.embedder.images) == (1, 3)


LONG = "long " * CONTEXT


async def test_only_so_many_texts_are_remembered_and_each_of_one_model() -> None:
    embedder, metrics = FakeEmbedder(), SearchMetrics()
    server, address = await start(embedder)
    async with grpc.aio.insecure_channel(address) as channel:
        client = EmbedderClient(channel, address)
        shared = SharedEmbeddings(client, metrics, longest_seconds=10, remembered_texts=2)

        async def embed(*texts: str, fingerprint: str = FINGERPRINT) -> int:
            before = embedder.texts
            embedded = await shared.texts(texts, fields=texts, fingerprint=fingerprint, timeout=10)
            rows = embedded.features
            assert embedded.cuts == {
                place: TextCut(len(text), CONTEXT) for place, text in enumerate(texts) if len(text) > CONTEXT
            }
            np.testing.assert_allclose(rows, np.stack([features_of(text) for text in texts]), atol=1e-5)
            return embedder.texts - before

        assert await embed("a", "b", "a") == 2
        assert await embed("a") == 0
        assert await embed(LONG) == 1
        assert await embed("a", LONG, "a") == 0
        assert await embed("c") == 1  # and b, used longest ago, is forgotten
        assert await embed(LONG, "c") == 1
        assert await embed("c") == 0
        assert await embed("b") == 1
        embedder.fingerprint = "clip-other"
        assert await embed("b", fingerprint="clip-other") == 1
        nothing = SharedEmbeddings(client, metrics, longest_seconds=10, remembered_texts=0)
        for _ in range(2):
            before = embedder.texts
            await nothing.texts(["a"], fields=["a"], fingerprint="clip-other", timeout=10)
            assert embedder.texts == before + 1
    await server.stop(None)
    samples = {
        (sample.labels["kind"], sample.labels["source"]): sample.value
        for collector in metrics.collectors()
        for family in collector.collect()
        for sample in family.samples
        if sample.name == "cir_search_embeddings_total"
    }
    assert samples == {("text", "embedder"): 9, ("text", "remembered"): 5}
