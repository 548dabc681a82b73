"""Prometheus metrics of the embedder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cir.common.v1 import errors_pb2 as pb
from cir.common.v1 import model_pb2
from embedder_service.batching.jobs import DropCause, Observer, Priority, Tower
from embedder_service.engine import Engine
from service_runtime.errors import ServiceError

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class EmbedderMetrics(Observer):
    """Counters and histograms that the engine's threads feed; `collectors` exports them."""

    def __init__(self) -> None:
        self._batch_items = Histogram(
            "cir_embedder_batch_items",
            "Items in one forward pass.",
            ["tower"],
            buckets=_ITEMS,
            registry=None,
        )
        self._queue_seconds = Histogram(
            "cir_embedder_queue_seconds",
            "Time from preprocessed to the start of the forward pass: the longest of each call in a pass.",
            ["tower", "priority"],
            buckets=_SECONDS,
            registry=None,
        )
        self._forward_seconds = Histogram(
            "cir_embedder_forward_seconds",
            "Time of one forward pass.",
            ["tower"],
            buckets=_SECONDS,
            registry=None,
        )
        self._prepare_seconds = Histogram(
            "cir_embedder_prepare_seconds",
            "Time to decode and preprocess one image, or to tokenise a few texts.",
            ["tower"],
            buckets=_SECONDS,
            registry=None,
        )
        self._items = Counter(
            "cir_embedder_items", "Items that got features, cache hits included.", ["tower"], registry=None
        )
        self._item_errors = Counter(
            "cir_embedder_item_errors",
            "Items that failed alone, by reason.",
            ["tower", "reason"],
            registry=None,
        )
        self._dropped = Counter(
            "cir_embedder_dropped_items",
            "Items that left before their forward pass, their call expired or cancelled.",
            ["tower", "cause"],
            registry=None,
        )
        self._given_up = Counter(
            "cir_embedder_images_given_up",
            "Images whose decoding was given up, by cause: time, memory, crash or busy.",
            ["cause"],
            registry=None,
        )
        # Looked up once: labels() takes longer than observe().
        self._by_tower = {
            tower: (
                self._batch_items.labels(tower),
                self._forward_seconds.labels(tower),
                self._prepare_seconds.labels(tower),
                self._items.labels(tower),
            )
            for tower in Tower
        }
        self._queue_by_class = {
            (tower, priority): self._queue_seconds.labels(tower, priority.name.lower())
            for tower in Tower
            for priority in Priority
        }
        self._dropped_by_cause = {
            (tower, cause): self._dropped.labels(tower, cause) for tower in Tower for cause in DropCause
        }

    def collectors(self) -> Sequence[Collector]:
        """Return everything that is fed."""
        return (
            self._batch_items,
            self._queue_seconds,
            self._forward_seconds,
            self._prepare_seconds,
            self._items,
            self._item_errors,
            self._given_up,
            self._dropped,
        )

    def passed(
        self, tower: Tower, priority: Priority, rows: int, queue_seconds: Sequence[float], seconds: float
    ) -> None:
        """Count a forward pass."""
        batch_items, forward_seconds, _, _ = self._by_tower[tower]
        batch_items.observe(rows)
        forward_seconds.observe(seconds)
        queue = self._queue_by_class[tower, priority]
        for wait in queue_seconds:
            queue.observe(wait)

    def prepared(self, tower: Tower, items: int, seconds: float) -> None:
        """Count the time of decoding or tokenising."""
        self._by_tower[tower][2].observe(seconds)

    def embedded(self, tower: Tower, items: int) -> None:
        """Count answered items."""
        self._by_tower[tower][3].inc(items)

    def item_failed(self, tower: Tower, error: Exception) -> None:
        """Count a failed item under its reason."""
        reason = error.reason if isinstance(error, ServiceError) else pb.MODEL_FAILED
        self._item_errors.labels(tower, pb.ErrorReason.Name(reason)).inc()

    def image_given_up(self, cause: str) -> None:
        """Count an image that was given up."""
        self._given_up.labels(cause).inc()

    def dropped(self, tower: Tower, cause: DropCause, items: int) -> None:
        """Count items that left early."""
        self._dropped_by_cause[tower, cause].inc(items)


class EngineState(Collector):
    """Gauges and counters that the engine keeps anyway, read when they are scraped."""

    def __init__(self, engine: Engine, model: model_pb2.ModelInfo, max_queue_items: int) -> None:
        self._engine = engine
        self._model = model
        self._max_queue_items = max_queue_items

    def collect(self) -> Iterator[Metric]:
        """Yield the figures of the queue, admission, caches and model."""
        waiting = GaugeMetricFamily(
            "cir_embedder_queue_items", "Items that wait for the device.", labels=["tower", "priority"]
        )
        for (tower, priority), rows in self._engine.batcher.waiting().items():
            waiting.add_metric([tower, priority.name.lower()], rows)
        yield waiting
        yield GaugeMetricFamily(
            "cir_embedder_held_items",
            "Items from their call's arrival to its answer.",
            value=self._engine.admission.held,
        )
        yield GaugeMetricFamily(
            "cir_embedder_held_items_limit",
            "Items that may be held; calls beyond it are refused.",
            value=self._max_queue_items,
        )
        wait = GaugeMetricFamily(
            "cir_embedder_expected_wait_seconds",
            "Seconds until the interactive items that are held now are expected to be embedded.",
            labels=["tower"],
        )
        for tower in Tower:
            wait.add_metric([tower], self._engine.admission.wait_seconds(tower))
        yield wait
        hits = CounterMetricFamily(
            "cir_embedder_cache_hits", "Items whose features were known.", labels=["cache"]
        )
        misses = CounterMetricFamily(
            "cir_embedder_cache_misses", "Items whose features were not known.", labels=["cache"]
        )
        for name, cache in (("image", self._engine.image_cache), ("text", self._engine.text_cache)):
            hits.add_metric([name], cache.hits)
            misses.add_metric([name], cache.misses)
        yield hits
        yield misses
        model = self._model
        facts = {
            "architecture": model.architecture,
            "pretrained": model.pretrained,
            "fingerprint": model.fingerprint,
            "device": model.device,
            "dtype": model.dtype,
            "runtime": model.runtime,
        }
        info = GaugeMetricFamily(
            "cir_embedder_model_info", "Always 1; the labels name the model.", labels=list(facts)
        )
        info.add_metric(list(facts.values()), 1)
        yield info
        yield GaugeMetricFamily(
            "cir_embedder_dtype_cosine",
            "Smallest cosine to float32 on the probe at start-up.",
            value=model.dtype_cosine,
        )
