"""Between request and model, with a model that the test controls."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from benchmarks._attack_images import jpeg_of_scans
from cir.common.v1 import errors_pb2 as pb
from cir.images.decode import Decoder
from embedder_service.batching.jobs import Observer
from embedder_service.engine import Engine, EngineOptions
from embedder_service.images.preprocess import PaddingMode, Preprocessor, prepare_with
from service_runtime.auth import caller_context
from service_runtime.errors import ServiceError
from service_runtime.image_reader import DecodeBudget, ImageReader
from tests.embedder_service.sample_images import encode, jpeg, sample_image

pytestmark = pytest.mark.torch

SIZE = 16
# Letters of a text that the model reads.
LONG = 40


class Fake:
    """Features are the mean and the largest level of the pixels, or the length of the text twice."""

    dimension = 2

    def __init__(self) -> None:
        self.rows = 0
        self.gate: threading.Event | None = None
        self.entered = threading.Event()
        self.poison: int | None = None

    def tokenize(self, texts: Sequence[str]) -> Any:
        return np.array([[len(text)] for text in texts], np.int64)

    def long_texts(self, texts: Sequence[str], tokens: Any) -> dict[int, int]:
        return {index: len(text) for index, text in enumerate(texts) if len(text) > LONG}

    def encode_images(self, pixels: Any) -> Any:
        self._pass(len(pixels))
        levels = pixels.reshape(len(pixels), -1).astype(np.float32)
        if self.poison is not None and (levels.max(axis=1) == self.poison).any():
            raise RuntimeError("out of memory")
        return np.stack([levels.mean(axis=1), levels.max(axis=1)], axis=1)

    def encode_tokens(self, tokens: Any) -> Any:
        self._pass(len(tokens))
        return np.repeat(tokens, 2, axis=1).astype(np.float32)

    def _pass(self, rows: int) -> None:
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(30)
        self.rows += rows


@asynccontextmanager
async def running(model: Fake, *, observer: Observer | None = None, **options: Any) -> AsyncIterator[Engine]:
    chosen: dict[str, Any] = {
        "max_batch": 8,
        "shared_bulk_batch": 2,
        "max_queue_items": 64,
        "preprocess_threads": 2,
        "image_cache_items": 0,
        "text_cache_items": 0,
    }
    decoder = Decoder(max_bytes=100_000, max_pixels=100_000)
    reader = ImageReader(prepare_with(decoder, Preprocessor(PaddingMode.CLIP, SIZE)))
    engine = Engine(model, reader, EngineOptions(**(chosen | options)), observer=observer)
    engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def flat(level: int) -> bytes:
    return encode(sample_image(SIZE, SIZE, "L").point([level] * 256), "PNG")


async def test_good_and_bad_items_keep_their_places() -> None:
    tensor = np.full((SIZE, SIZE, 3), 9, np.uint8)
    refused_before = ServiceError(pb.TENSOR_WRONG_SIZE, "refused before")
    images: list[Any] = [
        flat(5),
        b"",
        tensor,
        b"not an image",
        flat(7),
        refused_before,
        bytes(200_000),
        tensor,
    ]
    async with running(Fake()) as engine:
        embedded = await engine.embed_images(images)
    assert embedded.features[[0, 2, 4, 7], 1].tolist() == [5, 9, 7, 9]
    assert np.isnan(embedded.features[[1, 3, 5, 6]]).all()
    reasons = {
        index: error.reason for index, error in embedded.errors.items() if isinstance(error, ServiceError)
    }
    assert reasons == {
        1: pb.IMAGE_EMPTY,
        3: pb.IMAGE_UNREADABLE,
        5: pb.TENSOR_WRONG_SIZE,
        6: pb.IMAGE_TOO_MANY_BYTES,
    }
    assert embedded.decode_seconds > 0
    assert embedded.forward_seconds > 0


async def test_association_holds_over_many_calls_with_faults() -> None:
    chance = random.Random(1)
    model = Fake()
    model.poison = 13
    files = {level: flat(level) for level in range(40)}

    async def call(engine: Engine) -> None:
        levels = [chance.choice([-1, *range(40)]) for _ in range(chance.randint(1, 6))]
        task = asyncio.ensure_future(
            engine.embed_images([b"damaged" if level < 0 else files[level] for level in levels])
        )
        if chance.random() < 0.2:
            await asyncio.sleep(chance.random() * 0.01)
            task.cancel()
        try:
            embedded = await task
        except asyncio.CancelledError:
            return
        bad = [index for index, level in enumerate(levels) if level in (-1, 13)]
        assert sorted(embedded.errors) == bad
        good = [index for index in range(len(levels)) if index not in bad]
        assert embedded.features[good, 1].tolist() == [levels[index] for index in good]

    async with running(model, max_queue_items=1000, image_cache_items=5) as engine:
        await asyncio.gather(*(call(engine) for _ in range(60)))
        assert engine.admission.held == 0


async def test_known_images_and_texts_cost_no_forward_pass() -> None:
    model = Fake()
    async with running(model, image_cache_items=8, text_cache_items=8) as engine:
        first = await engine.embed_images([flat(3), flat(4)])
        again = await engine.embed_images([flat(4), flat(5)])
        texts = await engine.embed_texts(["a", "bb"])
        texts_again = await engine.embed_texts(["bb", "a"])
    assert (first.cache_hits, again.cache_hits, texts.cache_hits, texts_again.cache_hits) == (0, 1, 0, 2)
    assert again.features[:, 1].tolist() == [4, 5]
    assert texts_again.features[:, 0].tolist() == [2, 1]
    assert model.rows == 3 + 2


async def test_texts_that_are_cut_are_told_whether_they_are_known_or_not() -> None:
    texts = ["a" * 50, "b", "c" * 60, "d" * LONG, "c" * 60]
    for kept in (0, 2, 8):
        async with running(Fake(), text_cache_items=kept) as engine:
            for _ in range(3):
                answer = await engine.embed_texts(texts)
                assert answer.cuts == {0: 50, 2: 60, 4: 60}
            # Cut texts stay known for as long as their features.
            assert (await engine.embed_texts(["c" * 60, *(str(number) for number in range(9))])).cuts == {
                0: 60
            }
            assert (await engine.embed_texts(["c" * 60])).cuts == {0: 60}


async def test_with_caches_off_everything_is_computed() -> None:
    model = Fake()
    async with running(model) as engine:
        for _ in range(2):
            await engine.embed_images([flat(3)])
            await engine.embed_texts(["a"])
    assert model.rows == 4


async def test_overload_is_refused_before_any_work() -> None:
    model = Fake()
    model.gate = threading.Event()
    async with running(model, max_queue_items=4) as engine:
        busy = asyncio.ensure_future(engine.embed_texts(["a"] * 4))
        await asyncio.to_thread(model.entered.wait, 30)
        with pytest.raises(ServiceError, match="try again later") as caught:
            await engine.embed_images([jpeg()])
        assert caught.value.reason == pb.OVERLOADED
        model.gate.set()
        await busy
        assert (await engine.embed_images([jpeg()])).errors == {}


async def test_a_caller_that_sends_more_than_is_taken_keeps_no_other_out() -> None:
    model = Fake()
    model.gate = threading.Event()
    async with running(model, max_queue_items=64) as engine:
        with caller_context(None, "flood"):
            flood = [asyncio.ensure_future(engine.embed_texts([f"a {n}"] * 4)) for n in range(40)]
        await asyncio.to_thread(model.entered.wait, 30)
        with caller_context(None, "neighbour"):
            calls = [asyncio.ensure_future(engine.embed_images([jpeg()])) for _ in range(8)]
        await asyncio.sleep(0)
        model.gate.set()
        answers = await asyncio.gather(*flood, return_exceptions=True)
        assert sum(isinstance(answer, ServiceError) for answer in answers) == 32
        assert all(answer.errors == {} for answer in await asyncio.gather(*calls))


async def test_a_deadline_that_has_passed_ends_the_call() -> None:
    async with running(Fake()) as engine:
        for call in (
            engine.embed_images([jpeg(), jpeg()], deadline=time.monotonic() - 1),
            engine.embed_texts(["a"], deadline=time.monotonic() - 1),
        ):
            with pytest.raises(ServiceError) as caught:
                await call
            assert caught.value.reason == pb.DEADLINE
        assert engine.admission.held == 0


async def test_a_cancelled_call_leaves_nothing_behind() -> None:
    model = Fake()
    model.gate = threading.Event()
    async with running(model, preprocess_threads=1) as engine:
        first = asyncio.ensure_future(engine.embed_texts(["a"]))
        await asyncio.to_thread(model.entered.wait, 30)
        second = asyncio.ensure_future(engine.embed_images([jpeg(seed=i) for i in range(10)]))
        await asyncio.sleep(0.01)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        model.gate.set()
        await first
        assert engine.admission.held == 0
    assert model.rows == 1


@pytest.mark.service
async def test_a_costly_image_holds_up_nobody_and_fails_alone() -> None:
    given_up: list[str] = []
    endless = jpeg_of_scans(499)
    reader = ImageReader(
        prepare_with(Decoder(), Preprocessor(PaddingMode.CLIP, SIZE)),
        DecodeBudget(seconds=1.0),
        on_given_up=given_up.append,
    )
    chosen = {"max_batch": 8, "shared_bulk_batch": 2, "max_queue_items": 64, "preprocess_threads": 1}
    engine = Engine(Fake(), reader, EngineOptions(**chosen, image_cache_items=0, text_cache_items=0))
    engine.start()
    try:
        batch = [endless, flat(5), jpeg_of_scans(60_000, 64), encode(sample_image(9, 9), "GIF"), flat(7)]
        costly = asyncio.ensure_future(engine.embed_images(batch))
        for level in (1, 2, 3):
            neighbour = await engine.embed_images([flat(level)])
            assert neighbour.features[0, 1] == level
        assert not costly.done()
        embedded = await costly
    finally:
        await engine.close()
    assert {index: error.reason for index, error in embedded.errors.items()} == {  # type: ignore[attr-defined]
        0: pb.IMAGE_TOO_COSTLY,
        2: pb.IMAGE_TOO_COSTLY,
    }
    assert np.isfinite(embedded.features[[1, 3, 4]]).all()
    assert given_up == ["time"]
    assert engine.costly_pool.progress.open == engine.pool.progress.open == 0
