"""Random calls with faults of every kind: each item is answered exactly once, in its place."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cir.common.v1 import errors_pb2 as pb
from cir.images.header import Header
from embedder_service.batching.jobs import DropCause, Observer, Priority, Tower
from embedder_service.engine import EmbedResult, Engine, EngineOptions
from service_runtime.errors import ServiceError

pytestmark = pytest.mark.torch


class Kind(StrEnum):
    """Fate of an item on its way."""

    GOOD = "good"
    REFUSED = "refused"
    UNREADABLE = "unreadable"
    BREAKS_DECODER = "breaks decoder"
    ENDS_DECODER = "ends decoder"
    BREAKS_MODEL = "breaks model"
    ODD_SHAPE = "odd shape"
    NOT_FINITE = "not finite"


ANSWERED = (Kind.GOOD,)


@dataclass(frozen=True)
class Call:
    """A call of one tower: its items, and what happens to it as a whole."""

    tower: Tower
    priority: Priority
    kinds: list[Kind]
    tensors: bool
    pause: float
    cancel_after: float | None
    seconds_left: float


CALLS = st.builds(
    Call,
    # Those of the two calls that are made below; prompts and pairs have tests of their own.
    tower=st.sampled_from([Tower.IMAGE, Tower.TEXT]),
    priority=st.sampled_from(list(Priority)),
    kinds=st.lists(st.sampled_from([*[Kind.GOOD] * 6, *Kind]), min_size=1, max_size=14),
    tensors=st.booleans(),
    pause=st.sampled_from([0.0, 0.0, 0.001]),
    cancel_after=st.sampled_from([None, None, None, 0.0, 0.0005, 0.002]),
    seconds_left=st.sampled_from([60.0, 60.0, 60.0, 60.0, -1.0, 0.001, 0.004]),
)


class Parts:
    """Reader and model in one: an item is its number, and its kind is looked up by it."""

    dimension = 2

    def __init__(self, kinds: dict[int, Kind], chance: random.Random | None) -> None:
        self._kinds = kinds
        self._chance = chance
        self._turns = itertools.count()
        self.answered = Counter[int]()

    def check_bytes(self, size: int) -> None:
        """Every size will do."""

    def decode(self, content: bytes) -> int:
        number = int(content)
        match self._kinds[number]:
            case Kind.UNREADABLE:
                raise ServiceError(pb.IMAGE_UNREADABLE, "unreadable")
            case Kind.BREAKS_DECODER:
                raise MemoryError
            case Kind.ENDS_DECODER:
                raise SystemExit(1)
        return number

    def check(self, content: bytes) -> Header:
        return Header()

    def is_cheap(self, header: Header) -> bool:
        """Some images take the way of costly ones."""
        return next(self._turns) % 3 > 0

    def read(self, content: bytes, header: Header) -> Any:
        return self.row(self.decode(content))

    def close(self) -> None:
        """Nothing was started."""

    def row(self, number: int) -> Any:
        return np.full((5 if self._kinds[number] is Kind.ODD_SHAPE else 3,), number)

    def tokenize(self, texts: Sequence[str]) -> Any:
        numbers = [self.decode(text.encode()) for text in texts]
        return np.stack([self.row(number) for number in numbers])

    def long_texts(self, texts: Sequence[str], tokens: Any) -> dict[int, int]:
        return {}

    def encode(self, rows: Any) -> Any:
        if self._chance is not None and self._chance.random() < 0.2:
            raise RuntimeError("fails at random")
        numbers = rows[:, 0].tolist()
        kinds = [self._kinds[number] for number in numbers]
        if Kind.BREAKS_MODEL in kinds or rows.shape[1:] != (3,):
            raise RuntimeError("out of memory")
        self.answered.update(numbers)
        features = rows[:, :2].astype(np.float32)
        features[[kind is Kind.NOT_FINITE for kind in kinds]] = np.inf
        return features

    encode_images = encode
    encode_tokens = encode


class Count(Observer):
    """Sums of everything that the engine reports."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.items = Counter[str]()

    def _add(self, what: str, items: int) -> None:
        with self._lock:
            self.items[what] += items

    def embedded(self, tower: Tower, items: int) -> None:
        self._add("embedded", items)

    def item_failed(self, tower: Tower, error: Exception) -> None:
        self._add("failed", 1)

    def dropped(self, tower: Tower, cause: DropCause, items: int) -> None:
        self._add("dropped", items)


def items_of(call: Call, numbers: list[int], parts: Parts) -> list[Any]:
    """Return the value sent for each item: a refusal, a text, an image file or a tensor."""
    sent: list[Any] = []
    for number, kind in zip(numbers, call.kinds, strict=True):
        if kind is Kind.REFUSED:
            sent.append(ServiceError(pb.FIELD_REQUIRED, "refused"))
        elif call.tower is Tower.TEXT:
            sent.append(str(number))
        elif call.tensors and number % 2:
            sent.append(parts.row(number))
        else:
            sent.append(str(number).encode())
    return sent


def check(call: Call, numbers: list[int], sent: list[Any], embedded: EmbedResult, *, exact: bool) -> None:
    """Each item has its features or an error; without faults at random, errors are those of bad items."""
    assert embedded.features.shape == (len(numbers), 2)
    for index, (number, kind) in enumerate(zip(numbers, call.kinds, strict=True)):
        good = kind in ANSWERED
        if not isinstance(sent[index], (bytes, str, ServiceError)):
            good = kind not in (Kind.BREAKS_MODEL, Kind.ODD_SHAPE, Kind.NOT_FINITE)
        if index in embedded.errors:
            assert not (exact and good), (kind, embedded.errors[index])
            assert np.isnan(embedded.features[index]).all()
        else:
            assert good, kind
            assert embedded.features[index].tolist() == [number, number]


async def run(calls: list[Call], max_batch: int, lanes: int, seed: int | None) -> None:
    numbers = iter(range(1, 100_000))
    numbered = [(call, [next(numbers) for _ in call.kinds]) for call in calls]
    kinds = {number: kind for call, own in numbered for number, kind in zip(own, call.kinds, strict=True)}
    chance = None if seed is None else random.Random(seed)
    parts, count = Parts(kinds, chance), Count()
    engine = Engine(
        parts,
        parts,
        EngineOptions(
            max_batch=max_batch,
            shared_bulk_batch=2,
            max_queue_items=10_000,
            preprocess_threads=2,
            image_cache_items=4,
            text_cache_items=4,
            lanes=lanes,
        ),
        observer=count,
    )
    engine.start()

    async def one(call: Call, own: list[int]) -> None:
        await asyncio.sleep(call.pause)
        sent = items_of(call, own, parts)
        embed: Any = engine.embed_images if call.tower is Tower.IMAGE else engine.embed_texts
        deadline = time.monotonic() + call.seconds_left
        task = asyncio.ensure_future(embed(sent, priority=call.priority, deadline=deadline))
        if call.cancel_after is not None:
            await asyncio.sleep(call.cancel_after)
            task.cancel()
        try:
            embedded = await task
        except asyncio.CancelledError:
            assert call.cancel_after is not None
            return
        except ServiceError as error:
            if error.reason != pb.DEADLINE or call.seconds_left == 60:
                raise
            return
        check(call, own, sent, embedded, exact=seed is None)

    await asyncio.wait_for(asyncio.gather(*(one(call, own) for call, own in numbered)), 60)
    assert engine.admission.held == 0
    await engine.close()
    assert set(engine.batcher.waiting().values()) == {0}
    assert engine.batcher.progress.open == 0
    assert engine.pool.progress.open == 0
    if seed is None:
        assert all(times == 1 for times in parts.answered.values() if times)
    # Every item is counted once: with features, with an error, or as one that left early.
    assert sum(count.items.values()) == sum(len(call.kinds) for call in calls)


@settings(max_examples=30, deadline=None)
@given(calls=st.lists(CALLS, max_size=12), max_batch=st.integers(1, 6), lanes=st.integers(1, 2))
def test_errors_stay_with_their_items(calls: list[Call], max_batch: int, lanes: int) -> None:
    asyncio.run(run(calls, max_batch, lanes, None))


@settings(max_examples=30, deadline=None)
@given(
    calls=st.lists(CALLS, max_size=12),
    max_batch=st.integers(1, 6),
    lanes=st.integers(1, 2),
    seed=st.integers(0, 10_000),
)
def test_passes_that_fail_at_random_lose_nothing(
    calls: list[Call], max_batch: int, lanes: int, seed: int
) -> None:
    asyncio.run(run(calls, max_batch, lanes, seed))
