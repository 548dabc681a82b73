"""The embedder as a service: load, measure, warm up, serve."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import grpc.aio
import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from prometheus_client.registry import Collector

from cir.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from cir.images import FORMATS
from embedder_service.batching.jobs import Tower
from embedder_service.engine import Engine, EngineOptions, Model
from embedder_service.images.preprocess import prepare_with
from embedder_service.joint import load_joint_encoders
from embedder_service.loading import load_served
from embedder_service.metrics import EmbedderMetrics, EngineState
from embedder_service.requests import RequestParser
from embedder_service.served import ServedModel
from embedder_service.servicer import EmbedderServicer, to_duration
from embedder_service.settings import EmbedderSettings
from service_runtime.contract import SMALL_BYTES
from service_runtime.errors import StartupError
from service_runtime.image_reader import ImageReader
from service_runtime.logging import get_logger
from service_runtime.server import Application
from service_runtime.settings import software_version
from service_runtime.watchdog import Progress

_CUDA_BATCHES = (64, 16)
_CPU_BATCHES = (16, 4)


class EmbedderApplication(Application):
    """The embedder: one model behind one engine and one servicer."""

    service_names = (embedder_pb2.DESCRIPTOR.services_by_name["EmbedderService"].full_name,)

    def __init__(self, settings: EmbedderSettings) -> None:
        self._settings = settings
        self._servicer = EmbedderServicer(call_timeout=settings.call_timeout_seconds)
        self._engine: Engine | None = None
        self._metrics = EmbedderMetrics()
        self._state: EngineState | None = None

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicer."""
        embedder_pb2_grpc.add_EmbedderServiceServicer_to_server(self._servicer, server)

    def message_limits(self) -> Mapping[str, int]:
        """Return the bytes of a call of texts, which follow from the limits of a batch and of a text."""
        settings = self._settings
        texts = settings.max_batch_items * (4 * settings.max_text_characters + 16)
        return {f"/{self.service_names[0]}/EmbedTexts": SMALL_BYTES + texts}

    async def start(self) -> Mapping[str, object]:
        """Load the model and run both towers once, at the largest batch.

        Raises:
            StartupError: the model cannot be loaded, or fails on its first batch.
        """
        served = await asyncio.to_thread(self._load)
        settings = self._settings
        on_cuda = served.info.device.startswith("cuda")
        device_batch, bulk_batch = _CUDA_BATCHES if on_cuda else _CPU_BATCHES
        device_batch = settings.device_batch_items or device_batch
        bulk_batch = settings.bulk_batch_items or bulk_batch
        lanes = served.lanes
        joint = await asyncio.to_thread(load_joint_encoders, served)
        reader = ImageReader(
            prepare_with(settings.decoder(served.preprocessor.size), served.preprocessor),
            settings.decode_budget,
            threads=settings.prepare_threads_used,
            on_given_up=self._metrics.image_given_up,
        )
        engine = Engine(
            _launching(served) if on_cuda else served.model,
            reader,
            EngineOptions(
                max_batch=device_batch,
                shared_bulk_batch=bulk_batch,
                lanes=lanes,
                max_queue_items=settings.max_queue_items,
                max_wait_seconds=settings.max_wait_seconds,
                preprocess_threads=settings.prepare_threads_used,
                costly_threads=settings.decode_budget.workers,
                image_cache_items=settings.image_cache_items,
                text_cache_items=settings.text_cache_items,
            ),
            share_device=served.share_device,
            observer=self._metrics,
            joint=joint,
        )
        engine.start()
        self._engine = engine
        await asyncio.to_thread(_start_worker, reader)
        await self._warm_up(engine, served, device_batch)
        if served.release_memory is not None:
            await asyncio.to_thread(served.release_memory)
        self._state = EngineState(engine, served.info, settings.max_queue_items)
        parser = RequestParser(
            served.info.fingerprint,
            served.preprocessor.size,
            settings.max_batch_items,
            settings.max_text_characters,
            served.info.token_width,
            tuple(joint.by_name),
        )
        limits = self._limits()
        self._servicer.serve(
            engine,
            parser,
            embedder_pb2.GetEmbedderInfoResponse(
                model=served.info,
                limits=limits,
                version=software_version(),
                decoding=self._decoding(),
                joint_encoders=[
                    embedder_pb2.JointEncoder(name=name, description=encoder.description)
                    for name, encoder in joint.by_name.items()
                ],
            ),
        )
        return {
            "model": _facts(served.info),
            "limits": _facts(limits),
            "decoding": _facts(self._decoding()),
            "device_batch_items": device_batch,
            "device_lanes": lanes,
            "joint_encoders": list(joint.by_name),
        }

    async def close(self) -> None:
        """Stop the engine's threads."""
        if self._engine is not None:
            await self._engine.close()

    def collectors(self) -> Sequence[Collector]:
        """Return the metrics of engine and model."""
        return (*self._metrics.collectors(), *([] if self._state is None else [self._state]))

    def progress(self) -> Mapping[str, Progress]:
        """Return the progress of the device threads and of those that prepare items."""
        if self._engine is None:
            return {}
        return {
            "device": self._engine.batcher.progress,
            "prepare": self._engine.pool.progress,
            "decode": self._engine.costly_pool.progress,
        }

    def _load(self) -> ServedModel:
        served = load_served(self._settings)
        if served.info.refused_dtype:
            get_logger().warning(
                "dtype refused, float32 is used",
                dtype=served.info.refused_dtype,
                cosine=served.info.refused_dtype_cosine,
                bound=self._settings.min_dtype_cosine,
            )
        return served

    async def _warm_up(self, engine: Engine, served: ServedModel, batch: int) -> None:
        size = served.preprocessor.size
        images = np.zeros((batch, size, size, 3), np.uint8)
        tokens = served.model.tokenize(["a photo"] * batch)
        for tower, rows in ((Tower.IMAGE, images), (Tower.TEXT, tokens)):
            for part in (rows[:1], rows):
                result = await engine.batcher.submit(tower, part)
                if result.errors:
                    error = next(iter(result.errors.values()))
                    raise StartupError(f"the {tower} tower fails on its first batch: {error}") from error

    def _limits(self) -> embedder_pb2.EmbedderLimits:
        settings = self._settings
        return embedder_pb2.EmbedderLimits(
            max_image_bytes=settings.max_image_bytes,
            max_image_pixels=settings.max_image_pixels,
            max_text_characters=settings.max_text_characters,
            max_batch_items=settings.max_batch_items,
            max_message_bytes=settings.max_message_bytes,
            max_queue_items=settings.max_queue_items,
            max_concurrent_calls=settings.max_concurrent_calls,
            max_message_parts=settings.max_message_parts,
            max_stream_batches=settings.max_stream_batches,
            max_preprocessed_pixels=settings.max_preprocessed_pixels,
            call_timeout=to_duration(settings.call_timeout_seconds),
            max_wait=to_duration(settings.max_wait_seconds),
        )

    def _decoding(self) -> embedder_pb2.ImageDecoding:
        settings = self._settings
        return embedder_pb2.ImageDecoding(
            formats=FORMATS,
            exif_orientation=settings.exif_orientation,
            alpha=settings.alpha,
            alpha_background=settings.alpha_background if settings.alpha == "flatten" else "",
            jpeg_draft=settings.jpeg_draft,
        )


def _launching(served: ServedModel) -> Model:
    # Imported lazily, as in _load: torch is slow to load.
    from embedder_service.model.clip import ClipModel
    from embedder_service.model.cuda import CudaModel

    assert isinstance(served.model, ClipModel)  # noqa: S101  # no other runtime has CUDA
    return CudaModel(served.model)


def _start_worker(reader: ImageReader) -> None:
    try:
        reader.start()
    except OSError as error:
        raise StartupError(str(error)) from error


def _facts(message: Message) -> dict[str, object]:
    return {field.name: _fact(getattr(message, field.name)) for field in message.DESCRIPTOR.fields}


def _fact(value: object) -> object:
    if isinstance(value, Duration):
        return value.ToTimedelta().total_seconds()
    return value if isinstance(value, str | int | float) else list(cast("Iterable[object]", value))
