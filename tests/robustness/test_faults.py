"""Neighbours that die or hang: the search service says so, in the caller's time, and recovers."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from benchmarks._processes import Running
from cir.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from cir.search.v1.search_pb2 import Reference, SearchRequest, SearchResponse, Turn
from cir.search.v1.search_pb2_grpc import SearchServiceStub
from cir_cli.local.readiness import free_ports
from search_service.application import SearchApplication
from search_service.settings import SearchSettings
from service_runtime.server import serving
from tests.refused import refused
from tests.robustness.requests import UNTOUCHED
from tests.robustness.stack import Stack, fill_store, fingerprint_of, running_combiner, running_embedder
from tests.robustness.traffic import traffic

pytestmark = [pytest.mark.service, pytest.mark.slow]

BY_TEXT = SearchRequest(parent=UNTOUCHED, turns=[Turn(text="red")])
COMPOSED = SearchRequest(parent=UNTOUCHED, turns=[Turn(reference=Reference(item_id="item-1"), text="red")])
BY_ITEM = SearchRequest(parent=UNTOUCHED, turns=[Turn(reference=Reference(item_id="item-1"))])
SEARCH = "/cir.search.v1.SearchService/Search"


def front(folder: Path, fingerprint: str, embedder: str, combiner: str) -> SearchSettings:
    """Settings of a search service over a filled store below `folder`."""
    fill_store(folder, fingerprint)
    store = f"edge://{folder / 'store'}"
    return SearchSettings(
        port=0,
        log_level="error",
        embedder=embedder,
        combiner=combiner,
        store=store,
        # What was embedded before would hide that the embedder is away.
        remembered_texts=0,
    )


@pytest.mark.parametrize("dying", ["embedder", "combiner"])
async def test_a_killed_neighbour_is_named_and_used_again(stack: Stack, tmp_path: Path, dying: str) -> None:
    start = running_embedder if dying == "embedder" else running_combiner
    query, others = (BY_TEXT, BY_ITEM) if dying == "embedder" else (COMPOSED, BY_TEXT)
    port = free_ports(1)[0]
    with ExitStack() as cleanup:
        killed: Running = await asyncio.to_thread(cleanup.enter_context, start(tmp_path, port))
        addresses = {"embedder": stack.embedder.address, "combiner": stack.combiner.address}
        fingerprint = await asyncio.to_thread(fingerprint_of, stack.embedder.address)
        addresses[dying] = killed.address
        settings = await asyncio.to_thread(front, tmp_path, fingerprint, **addresses)
        async with (
            serving(SearchApplication(settings), settings) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            search: Any = SearchServiceStub(channel)
            async with traffic([address], [(SEARCH, query.SerializeToString())]) as seen:
                killed.process.send_signal(signal.SIGKILL)
                await asyncio.to_thread(killed.process.wait)
                await asyncio.wait_for(seen.has(12), 60)
            # Whatever was under way when it died: answered, or UNAVAILABLE with the reason; nothing else.
            failures = seen.failures()
            assert failures
            assert {failure.code for failure in failures} == {grpc.StatusCode.UNAVAILABLE}
            assert all(f"the {dying} at {killed.address}" in failure.said for failure in failures)
            refusal = await refused(search.Search(query, timeout=20))
            assert (refusal.code.name, refusal.reason) == ("UNAVAILABLE", f"{dying.upper()}_UNAVAILABLE")
            assert refusal.retry_after is not None
            # What does not need it goes on.
            assert (await search.Search(others, timeout=20)).results

            await asyncio.to_thread(cleanup.enter_context, start(tmp_path, port))
            # The channel connects again by itself; how soon is up to its backoff, of 2 s at most.
            for _ in range(100):
                if answer := await _answer(search, query):
                    break
                await asyncio.sleep(0.3)
            assert answer is not None
            assert answer.results


async def _answer(search: Any, query: SearchRequest) -> SearchResponse | None:
    """The answer; None while a neighbour is UNAVAILABLE."""
    try:
        answer: SearchResponse = await search.Search(query, timeout=20)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return None
    return answer


class StuckEmbedder(embedder_pb2_grpc.EmbedderServiceServicer):
    """Tells its model, and answers nothing else."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.time_left = 0.0

    async def GetEmbedderInfo(self, request: Any, context: Any) -> embedder_pb2.GetEmbedderInfoResponse:
        answer = embedder_pb2.GetEmbedderInfoResponse()
        answer.model.fingerprint, answer.model.dimension = self._fingerprint, 32
        return answer

    async def EmbedTexts(self, request: Any, context: Any) -> embedder_pb2.EmbedTextsResponse:
        self.time_left = context.time_remaining()
        self.entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError


async def test_deadline_and_cancellation_of_the_caller_reach_a_stuck_embedder(
    tmp_path: Path,
) -> None:
    stuck = StuckEmbedder("stuck-model")
    server = grpc.aio.server()
    embedder_pb2_grpc.add_EmbedderServiceServicer_to_server(stuck, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    embedder, nobody = f"127.0.0.1:{port}", f"127.0.0.1:{free_ports(1)[0]}"
    settings = await asyncio.to_thread(front, tmp_path, "stuck-model", embedder, nobody)
    async with (
        serving(SearchApplication(settings), settings) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        search: Any = SearchServiceStub(channel)
        started = time.monotonic()
        refusal = await refused(search.Search(BY_TEXT, timeout=4.0))
        assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
        # Far below the service's own limit of 10 s for a call to a neighbour.
        assert time.monotonic() - started < 8
        # The embedding may be shared with callers who have more time: it ends with its last caller.
        assert 0 < stuck.time_left <= settings.call_timeout_seconds
        await asyncio.wait_for(stuck.cancelled.wait(), 10)

        stuck.entered.clear()
        stuck.cancelled.clear()
        call = search.Search(BY_TEXT, timeout=60)
        await asyncio.wait_for(stuck.entered.wait(), 10)
        assert stuck.time_left > 5
        call.cancel()
        await asyncio.wait_for(stuck.cancelled.wait(), 10)
    await server.stop(None)
