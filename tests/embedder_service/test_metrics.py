"""Metrics of the embedder, as they are scraped."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from cir.common.v1 import errors_pb2 as pb
from cir.common.v1 import model_pb2
from embedder_service.batching.jobs import Priority
from embedder_service.metrics import EmbedderMetrics, EngineState
from service_runtime.errors import ServiceError
from tests.embedder_service.test_engine import Fake, flat, running

pytestmark = pytest.mark.torch

MODEL = model_pb2.ModelInfo(
    architecture="small",
    pretrained="random:7",
    fingerprint="clip-1",
    device="cpu",
    dtype="bfloat16",
    runtime="openvino",
    dtype_cosine=0.9995,
)


class Exported:
    """The metrics of an engine, as they are scraped."""

    def __init__(self) -> None:
        self.metrics = EmbedderMetrics()
        self.registry = CollectorRegistry()
        for collector in self.metrics.collectors():
            self.registry.register(collector)

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"cir_embedder_{name}", labels)


async def test_passes_items_errors_and_caches_are_counted() -> None:
    exported = Exported()
    model = Fake()
    model.poison = 13
    async with running(
        model, observer=exported.metrics, image_cache_items=8, text_cache_items=8, max_batch=4
    ) as engine:
        exported.registry.register(EngineState(engine, MODEL, 64))
        refused = ServiceError(pb.TENSOR_WRONG_SIZE, "refused before")
        await engine.embed_images([flat(1), flat(2), flat(13), b"damaged", b"", refused])
        await engine.embed_images([flat(1)], priority=Priority.BULK)
        await engine.embed_texts(["a", "bb", "ccc"])
        await engine.embed_texts(["a"])
    assert exported("items_total", tower="image") == 3
    assert exported("items_total", tower="text") == 4
    assert exported("batch_items_sum", tower="image") == 3
    assert exported("batch_items_sum", tower="text") == 3
    assert exported("prepare_seconds_count", tower="image") == 3
    assert exported("forward_seconds_count", tower="text") == 1
    waits = exported("queue_seconds_count", tower="image", priority="interactive")
    assert waits is not None
    assert 1 <= waits <= 3
    for reason in ("MODEL_FAILED", "IMAGE_UNREADABLE", "IMAGE_EMPTY", "TENSOR_WRONG_SIZE"):
        assert exported("item_errors_total", tower="image", reason=reason) == 1
    assert exported("cache_hits_total", cache="image") == 1
    assert exported("cache_misses_total", cache="image") == 4
    assert exported("cache_hits_total", cache="text") == 1
    assert exported("cache_misses_total", cache="text") == 3


async def test_what_waits_is_held_and_leaves_early_is_seen() -> None:
    exported = Exported()
    model = Fake()
    model.gate = threading.Event()
    async with running(model, observer=exported.metrics) as engine:
        exported.registry.register(EngineState(engine, MODEL, 64))
        first = asyncio.ensure_future(engine.embed_texts(["a"]))
        await asyncio.to_thread(model.entered.wait, 30)
        calls: list[Any] = [
            asyncio.ensure_future(engine.embed_texts(["b"] * 3, priority=priority)) for priority in Priority
        ]
        async with asyncio.timeout(30):
            while exported("queue_items", tower="text", priority="bulk") != 3:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert exported("held_items") == 7
        assert exported("held_items_limit") == 64
        calls[1].cancel()
        await asyncio.gather(calls[1], return_exceptions=True)
        model.gate.set()
        await asyncio.gather(first, calls[0])
        with pytest.raises(ServiceError):
            await engine.embed_texts(["a", "b"], deadline=0)
    assert exported("dropped_items_total", tower="text", cause="cancelled") == 3
    assert exported("dropped_items_total", tower="text", cause="expired") == 2
    assert exported("queue_items", tower="text", priority="bulk") == 0
    assert exported("held_items") == 0


async def test_the_model_is_told() -> None:
    exported = Exported()
    async with running(Fake()) as engine:
        exported.registry.register(EngineState(engine, MODEL, 64))
        facts = {
            "architecture": "small",
            "pretrained": "random:7",
            "fingerprint": "clip-1",
            "device": "cpu",
            "dtype": "bfloat16",
            "runtime": "openvino",
        }
        assert exported("model_info", **facts) == 1
        assert exported("dtype_cosine") == pytest.approx(0.9995)
        assert b"# TYPE cir_embedder_queue_seconds histogram" in generate_latest(exported.registry)
