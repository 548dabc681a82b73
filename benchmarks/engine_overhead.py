"""What our own code costs: the engine and gRPC around a model that answers at once.

    python -m benchmarks.engine_overhead [--photos FOLDER] [--json FILE]

The model does nothing, so every row shows a ceiling of the code around it. JPEG rows stand beside a bare pool
of threads that decodes and preprocesses the same pictures; idle rows tell the time that one call takes
through the engine and through gRPC. Server and caller share this process and its cores: a service of its own
has them to itself. Rows take turns over several rounds; the figures are medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.embedder_service import TEXT, read_photos, stream_rate, timed, timed_call
from cir.embedder.v1 import embedder_pb2 as pb
from cir.embedder.v1 import embedder_pb2_grpc
from cir.images.decode import Decoder
from embedder_service.batching.jobs import Observer, Priority
from embedder_service.batching.scheduling import RECENT_SECONDS
from embedder_service.engine import Engine, EngineOptions
from embedder_service.images.preprocess import Preprocessor, prepare_with
from embedder_service.metrics import EmbedderMetrics
from embedder_service.requests import RequestParser
from embedder_service.servicer import EmbedderServicer
from service_runtime.image_reader import ImageReader

SIZE = 224
CONTEXT = 77
DIMENSION = 512
BATCH = 64
CALL_ITEMS = 64
CALLS = 8
_MESSAGE = 64 * 1024 * 1024


class NullModel:
    """Answers zeros at once."""

    dimension = DIMENSION

    def tokenize(self, texts: Sequence[str]) -> Any:
        """Tokens of nothing."""
        return np.zeros((len(texts), CONTEXT), np.int64)

    def long_texts(self, texts: Sequence[str], tokens: Any) -> dict[int, int]:
        """No text is cut."""
        return {}

    def encode_images(self, pixels: Any) -> Any:
        """Features of nothing."""
        return np.zeros((len(pixels), DIMENSION), np.float32)

    encode_tokens = encode_images


def main() -> None:
    """Run everything, print a table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of JPEG files; drawn pictures without it")
    parser.add_argument("--seconds", type=float, default=2, help="time for each row in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    photos = read_photos(options.photos)
    rates, latencies = asyncio.run(measure(photos, options.seconds, options.rounds))
    report = {
        "cores": os.cpu_count(),
        "photos": len(photos),
        "items_per_second": rates,
        "idle_milliseconds": latencies,
    }
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


async def measure(
    photos: list[bytes], seconds: float, rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Rates and idle latencies by row: medians over the rounds."""
    rates: defaultdict[str, list[float]] = defaultdict(list)
    idle: defaultdict[str, list[float]] = defaultdict(list)
    pixels = np.random.default_rng(0).integers(0, 256, (CALL_ITEMS, SIZE, SIZE, 3), np.uint8)
    tensors = list(pixels)
    texts = [f"{TEXT} {number}" for number in range(CALL_ITEMS)]
    tensor_call = pb.EmbedImagesRequest(images=[pb.ImageInput(tensor=tensor.tobytes()) for tensor in tensors])
    text_call = pb.EmbedTextsRequest(texts=texts)
    image, text = (
        pb.EmbedImagesRequest(images=[pb.ImageInput(content=photos[0])]),
        pb.EmbedTextsRequest(texts=[TEXT]),
    )
    chosen = [photos[number % len(photos)] for number in range(CALL_ITEMS)]
    async with running(EmbedderMetrics()) as (engine, stub), running(Observer()) as (silent, _):
        for _ in range(rounds):
            loads: dict[str, Callable[[], Awaitable[Any]]] = {
                "tensors, engine": lambda: engine.embed_images(tensors),
                "tensors, engine, metrics off": lambda: silent.embed_images(tensors),
                "tensors, gRPC": lambda: stub.EmbedImages(tensor_call),
                "texts, engine": lambda: engine.embed_texts(texts),
                "texts, engine, metrics off": lambda: silent.embed_texts(texts),
                "texts, gRPC": lambda: stub.EmbedTexts(text_call),
                "JPEG, engine": lambda: engine.embed_images(chosen, priority=Priority.BULK),
            }
            rates["JPEG, bare threads"].append(await asyncio.to_thread(bare_rate, photos, seconds))
            for name, call in loads.items():
                if name.startswith("JPEG"):
                    # While interactive calls are remembered, bulk work is held back.
                    await asyncio.sleep(RECENT_SECONDS)
                rates[name].append(await rate(call, seconds))
            rates["JPEG, gRPC stream"].append(await stream_rate(stub, photos, seconds, CALL_ITEMS))
            for _ in range(100):
                idle["image, bare"].append(timed(lambda: prepare(photos[0])))
                idle["image, engine"].append(await timed_call(engine.embed_images([photos[0]])))
                idle["image, gRPC"].append(await timed_call(stub.EmbedImages(image)))
                idle["text, engine"].append(await timed_call(engine.embed_texts([TEXT])))
                idle["text, gRPC"].append(await timed_call(stub.EmbedTexts(text)))
    return (
        {name: statistics.median(values) for name, values in rates.items()},
        {name: statistics.median(values) for name, values in idle.items()},
    )


@asynccontextmanager
async def running(observer: Observer) -> AsyncIterator[tuple[Engine, Any]]:
    """An engine around the null model, and a stub of a server over it."""
    engine = Engine(
        NullModel(),
        ImageReader(prepare_with(Decoder(), Preprocessor(size=SIZE)), threads=os.cpu_count() or 1),
        EngineOptions(
            max_batch=BATCH,
            shared_bulk_batch=16,
            max_queue_items=100_000,
            preprocess_threads=os.cpu_count() or 1,
            image_cache_items=0,
            text_cache_items=0,
        ),
        observer=observer,
    )
    engine.start()
    servicer = EmbedderServicer(call_timeout=60)
    limits = pb.EmbedderLimits(max_stream_batches=4)
    servicer.serve(engine, RequestParser("", SIZE, 256, 2000), pb.GetEmbedderInfoResponse(limits=limits))
    options = [("grpc.max_receive_message_length", _MESSAGE), ("grpc.max_send_message_length", _MESSAGE)]
    server = grpc.aio.server(options=options)
    embedder_pb2_grpc.add_EmbedderServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            yield engine, embedder_pb2_grpc.EmbedderServiceStub(channel)
    finally:
        await server.stop(5)
        await engine.close()


def prepare(photo: bytes) -> Any:
    """Decode and preprocess one picture."""
    return Preprocessor(size=SIZE)(Decoder()(photo))


def bare_rate(photos: list[bytes], seconds: float) -> float:
    """Pictures a second of threads that decode and preprocess, and nothing else."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ahead: list[Future[Any]] = []
        submitted = done = 0
        started = time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            while len(ahead) < 2 * CALL_ITEMS:
                ahead.append(pool.submit(prepare, photos[submitted % len(photos)]))
                submitted += 1
            np.stack([future.result() for future in ahead[:CALL_ITEMS]])
            del ahead[:CALL_ITEMS]
            done += CALL_ITEMS
    return done / elapsed


async def rate(call: Callable[[], Awaitable[Any]], seconds: float) -> float:
    """Items a second of a few callers, each with its next call when it has the answer to the last."""
    done, started = 0, time.perf_counter()

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() - started < seconds:
            await call()
            done += CALL_ITEMS

    await asyncio.gather(*(caller() for _ in range(CALLS)))
    return done / (time.perf_counter() - started)


def show(report: dict[str, Any]) -> None:
    """Print both tables; JPEG rows also as a share of the bare threads."""
    rates = report["items_per_second"]
    table = Table(title=f"a model that answers at once, {report['cores']} cores")
    for column in ("", "items/s", "x bare threads"):
        table.add_column(column, justify="left" if not column else "right")
    for name, value in rates.items():
        share = f"{value / rates['JPEG, bare threads']:.2f}" if name.startswith("JPEG") else ""
        table.add_row(name, f"{value:,.0f}", share)
    Console().print(table)
    idle = Table(title="one at a time, median ms")
    for name in report["idle_milliseconds"]:
        idle.add_column(name, justify="right")
    idle.add_row(*(f"{value:.2f}" for value in report["idle_milliseconds"].values()))
    Console().print(idle)


if __name__ == "__main__":
    main()
