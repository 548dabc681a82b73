"""SIGTERM under load: what was accepted is answered; with another replica no call fails at all."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from benchmarks._processes import Running
from cir.embedder.v1 import embedder_pb2
from tests.robustness.requests import STREAM, good_requests
from tests.robustness.stack import (
    Stack,
    fill_store,
    fingerprint_of,
    running_combiner,
    running_embedder,
    running_search,
)
from tests.robustness.traffic import channel_to, traffic

pytestmark = [pytest.mark.service, pytest.mark.slow]

SERVICES = ("embedder", "combiner", "search")
Pair = tuple[Running, Running]


@pytest.fixture
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """Two replicas of a service."""
    with ExitStack() as cleanup:
        found: list[Running] = []
        for number in range(2):
            folder = tmp_path / str(number)
            folder.mkdir()
            if request.param == "embedder":
                replica = running_embedder(folder)
            elif request.param == "combiner":
                replica = running_combiner(folder)
            else:
                stack: Stack = request.getfixturevalue("stack")
                fill_store(folder, fingerprint_of(stack.embedder.address))
                replica = running_search(folder, stack.embedder.address, stack.combiner.address)
            found.append(cleanup.enter_context(replica))
        yield found[0], found[1]


@pytest.mark.parametrize(("pair", "service"), [(name, name) for name in SERVICES], indirect=["pair"])
async def test_draining_loses_no_call(pair: Pair, service: str) -> None:
    first, second = pair
    calls = good_requests(service)
    async with traffic([first.address, second.address], calls) as seen:
        first.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(first.process.wait, 30) == 0
        await asyncio.wait_for(seen.has(60), 60)
    # Another replica takes what the first one takes no more.
    assert seen.failures() == []

    async with traffic([second.address], calls) as seen:
        told = time.monotonic()
        second.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(second.process.wait, 30) == 0
    # The last replica: every call is answered, or it was never accepted and may be sent elsewhere.
    assert {outcome.code for outcome in seen.failures()} <= {grpc.StatusCode.UNAVAILABLE}
    assert [outcome for outcome in seen.failures() if outcome.ended < told] == []


async def test_streams_under_way_are_served_to_their_end(tmp_path: Path) -> None:
    with running_embedder(tmp_path) as embedder:
        tensors = [embedder_pb2.ImageInput(tensor=bytes([n] * 3072)) for n in range(16)]
        images = embedder_pb2.EmbedImagesRequest(images=tensors)
        finish = asyncio.Event()

        async def batches() -> AsyncIterator[bytes]:
            for number in range(20):
                yield embedder_pb2.EmbedStreamRequest(batch_id=number, images=images).SerializeToString()
                if number == 3:
                    await finish.wait()

        async with channel_to([embedder.address]) as channel:
            open_stream: Any = channel.stream_stream(STREAM)
            streams = [open_stream(batches(), timeout=60) for _ in range(3)]
            reading = [aiter(stream) for stream in streams]
            answered = [[await anext(answers)] for answers in reading]
            embedder.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            # The streams go on, with batches that are sent after the signal too.
            finish.set()
            for stream, rest, answers in zip(streams, reading, answered, strict=True):
                answers.extend([answer async for answer in rest])
                assert await stream.code() is grpc.StatusCode.OK
                ids = sorted(
                    embedder_pb2.EmbedStreamResponse.FromString(answer).batch_id for answer in answers
                )
                assert ids == list(range(20))
        assert await asyncio.to_thread(embedder.process.wait, 30) == 0


async def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    with running_embedder(tmp_path) as embedder:
        never = asyncio.Event()

        async def batches() -> AsyncIterator[bytes]:
            batch = embedder_pb2.EmbedStreamRequest(texts=embedder_pb2.EmbedTextsRequest(texts=["red"]))
            yield batch.SerializeToString()
            await never.wait()

        async with channel_to([embedder.address]) as channel:
            open_stream: Any = channel.stream_stream(STREAM)
            stream = open_stream(batches(), timeout=120)
            await anext(aiter(stream))
            embedder.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.5)
            # A stream that nobody finishes holds the drain up, for the grace of 30 seconds.
            assert embedder.process.poll() is None
            embedder.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(embedder.process.wait, 10) == 130
            stream.cancel()
