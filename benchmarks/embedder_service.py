"""Images a second through gRPC, from JPEG bytes, beside loops in this process over the same model.

    python -m benchmarks.embedder_service [--architecture ViT-B-32] [--photos FOLDER] [--json FILE]

Three baselines: the loop that is written first (float32, one picture at a time), one of large batches
(threads that decode beside the model, the service's own dtype), and a loop on each core with small batches;
"best loop" is the faster of the latter two. The service runs as a process of its own, with its caches off.
Rows take turns over several rounds, so that all see the same machine; the figures are medians. Interactive
latency is measured twice in each round, on the idle service and while a bulk stream saturates it; its
percentiles are over the calls of all rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks._processes import service
from cir.channel import open_async_channel
from cir.embedder.v1 import embedder_pb2 as pb
from cir.embedder.v1.embedder_pb2_grpc import EmbedderServiceStub
from cir.images.decode import Decoder
from embedder_service.batching.scheduling import RECENT_SECONDS
from embedder_service.settings import EmbedderSettings

if TYPE_CHECKING:
    from embedder_service.served import ServedModel

TEXT = "has longer sleeves and is blue"
BATCH = 16
CLIENTS = (1, 8, 32)
FIRST = "loop, float32, one at a time"
PIPELINED = "loop, batches, decoding beside"
SIDE_BY_SIDE = "loops, one on each core, small batches"


def main() -> None:
    """Run everything, print a table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument("--pretrained", default="random", help="tag, checkpoint or random[:SEED]")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--folder", type=Path, help="model folder of the same model, for rows by openvino")
    parser.add_argument("--photos", type=Path, help="folder of JPEG files; drawn pictures without it")
    parser.add_argument("--seconds", type=float, default=5, help="time for each row in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=100, help="interactive calls in each round")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    photos = read_photos(options.photos)
    environment = {
        "ARCHITECTURE": options.architecture,
        "PRETRAINED": options.pretrained,
        "DTYPE": options.dtype,
        "IMAGE_CACHE_ITEMS": "0",
        "TEXT_CACHE_ITEMS": "0",
        "LOG_LEVEL": "warning",
        "RUNTIME": "torch",
    }
    by_folder = environment | {
        "ARCHITECTURE": str(options.folder),
        "PRETRAINED": "auto",
        "RUNTIME": "openvino",
    }
    exact = load_model(options, "float32")
    same = exact if exact.info.dtype == options.dtype else load_model(options, options.dtype)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "embedder.log"
        ready = "cir.embedder.v1.EmbedderService"
        with ExitStack() as stack:
            address = stack.enter_context(service("embedder_service", environment, ready=ready, log=log))
            light = ""
            if options.folder:
                log = Path(folder) / "light.log"
                light = stack.enter_context(service("embedder_service", by_folder, ready=ready, log=log))
            rates, latencies, interactive = asyncio.run(measure(address, light, exact, same, photos, options))
    report = {
        "model": f"{same.info.architecture} {same.info.pretrained}",
        "device": same.info.device,
        "dtype": same.info.dtype,
        "cores": os.cpu_count(),
        "photos": len(photos),
        "mean_photo_bytes": round(statistics.mean(map(len, photos))),
        "images_per_second": rates,
        "idle_milliseconds": latencies,
        "interactive_milliseconds": interactive,
    }
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


async def measure(
    address: str,
    light: str,
    exact: ServedModel,
    same: ServedModel,
    photos: list[bytes],
    options: argparse.Namespace,
) -> tuple[dict[str, float], dict[str, float], dict[str, dict[str, float]]]:
    """Rates and idle latencies by row, medians over the rounds; percentiles of interactive calls.

    `light` is the address of an embedder by openvino, empty for none; it takes turns with torch.
    """
    rates: defaultdict[str, list[float]] = defaultdict(list)
    latencies: defaultdict[str, list[float]] = defaultdict(list)
    interactive: defaultdict[str, list[float]] = defaultdict(list)
    seconds: float = options.seconds
    image = pb.EmbedImagesRequest(images=[pb.ImageInput(content=photos[0])])
    text = pb.EmbedTextsRequest(texts=[TEXT])
    async with AsyncExitStack() as stack:
        stub = EmbedderServiceStub(await stack.enter_async_context(open_async_channel(address)))
        other = (
            EmbedderServiceStub(await stack.enter_async_context(open_async_channel(light))) if light else None
        )
        for _ in range(options.rounds):
            rates[FIRST].append(naive_rate(exact, photos, seconds))
            rates[PIPELINED].append(pipelined_rate(same, photos, seconds))
            rates[SIDE_BY_SIDE].append(side_by_side_rate(same, photos, seconds))
            for clients in CLIENTS:
                name = f"gRPC, {clients} at a time"
                rates[name].append(await clients_rate(stub, photos, clients, seconds))
                if other is not None:
                    rates[f"openvino, {name}"].append(await clients_rate(other, photos, clients, seconds))
            await asyncio.sleep(
                RECENT_SECONDS
            )  # while interactive calls are remembered, bulk work is held back
            rates[f"gRPC, one stream of batches of {BATCH}"].append(await stream_rate(stub, photos, seconds))
            for _ in range(10):
                # Call by call in turns: both see the same machine.
                latencies["image, in-process"].append(timed(lambda: encode_one(same, photos[0])))
                latencies["image, gRPC"].append(await timed_call(stub.EmbedImages(image, timeout=60)))
                latencies["text, in-process"].append(timed(lambda: same.model.encode_texts([TEXT])))
                latencies["text, gRPC"].append(await timed_call(stub.EmbedTexts(text, timeout=60)))
                if other is not None:
                    call = other.EmbedImages(image, timeout=60)
                    latencies["openvino, image, gRPC"].append(await timed_call(call))
                    words = other.EmbedTexts(text, timeout=60)
                    latencies["openvino, text, gRPC"].append(await timed_call(words))
            interactive["idle"] += await interactive_calls(stub, image, options.calls)
            async with saturated(stub, photos):
                interactive["beside a bulk stream"] += await interactive_calls(stub, image, options.calls)
    return (
        {name: statistics.median(values) for name, values in rates.items()},
        {name: statistics.median(values) for name, values in latencies.items()},
        {name: percentiles(values) for name, values in interactive.items()},
    )


async def interactive_calls(stub: Any, image: pb.EmbedImagesRequest, calls: int) -> list[float]:
    """Milliseconds of one picture after the other, sent a little apart, as people do."""
    times = []
    for _ in range(calls):
        times.append(await timed_call(stub.EmbedImages(image, timeout=60)))
        await asyncio.sleep(0.02)
    return times


@asynccontextmanager
async def saturated(stub: Any, photos: list[bytes]) -> AsyncIterator[None]:
    """A bulk stream that sends as fast as flow control lets it, from its third answer on."""

    async def requests() -> AsyncIterator[pb.EmbedStreamRequest]:
        while True:
            yield pb.EmbedStreamRequest(images=images)

    async def read(call: Any) -> None:
        async for answer in call:
            assert not answer.images.errors
            answered.release()

    images = pb.EmbedImagesRequest(images=[pb.ImageInput(content=photo) for photo in photos[:BATCH]])
    call = stub.EmbedStream(requests())
    answered = asyncio.Semaphore(0)
    reading = asyncio.create_task(read(call))
    for _ in range(3):
        await answered.acquire()
    yield
    assert not reading.done()
    call.cancel()
    await asyncio.gather(reading, return_exceptions=True)


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile."""
    return {"p50": float(np.percentile(milliseconds, 50)), "p99": float(np.percentile(milliseconds, 99))}


def load_model(options: argparse.Namespace, dtype: str) -> ServedModel:
    """The model as the service holds it."""
    # Before torch is loaded, as the service does it: the loops get the same advantage.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from embedder_service.model.load import load

    return load(
        EmbedderSettings.model_validate(
            {"architecture": options.architecture, "pretrained": options.pretrained, "dtype": dtype}
        )
    )


def read_photos(folder: Path | None, limit: int = 256) -> list[bytes]:
    """JPEG files of a folder, or drawn pictures of the size of a shop's photos."""
    if folder is not None:
        return [path.read_bytes() for path in sorted(folder.glob("*.jp*g"))[:limit]]
    random = np.random.default_rng(0)
    photos = []
    for _ in range(64):
        cells = random.integers(0, 256, (67, 50, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(cells).resize((400, 533), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        photos.append(buffer.getvalue())
    return photos


def naive_rate(held: ServedModel, photos: list[bytes], seconds: float) -> float:
    """Decode, preprocess and embed one picture after the other."""
    encode_one(held, photos[0])
    done, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        encode_one(held, photos[done % len(photos)])
        done += 1
    return done / elapsed


def encode_one(held: ServedModel, photo: bytes) -> Any:
    """Features of one JPEG."""
    return held.model.encode_images(held.preprocessor(Decoder()(photo))[None])


def pipelined_rate(held: ServedModel, photos: list[bytes], seconds: float) -> float:
    """Decode on threads, two batches ahead of the model."""

    def prepare(photo: bytes) -> Any:
        return held.preprocessor(Decoder()(photo))

    held.model.encode_images(np.stack([prepare(photos[0])] * BATCH))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ahead: list[Future[Any]] = []
        submitted = done = 0
        started = time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            while len(ahead) < 3 * BATCH:
                ahead.append(pool.submit(prepare, photos[submitted % len(photos)]))
                submitted += 1
            held.model.encode_images(np.stack([future.result() for future in ahead[:BATCH]]))
            del ahead[:BATCH]
            done += BATCH
    return done / elapsed


def side_by_side_rate(held: ServedModel, photos: list[bytes], seconds: float, batch: int = 4) -> float:
    """A thread for each core decodes and embeds batches of its own."""
    import torch

    threads = torch.get_num_threads()
    lanes = os.cpu_count() or 1
    started = time.perf_counter()

    def loop(lane: int) -> int:
        # Kept for each thread by some versions of torch, for the process by others.
        torch.set_num_threads(1)
        done = lane
        while time.perf_counter() - started < seconds:
            chosen = [photos[(done + i) % len(photos)] for i in range(batch)]
            held.model.encode_images(np.stack([held.preprocessor(Decoder()(photo)) for photo in chosen]))
            done += batch
        return done - lane

    with ThreadPoolExecutor(lanes) as pool:
        done = sum(pool.map(loop, range(lanes)))
    elapsed = time.perf_counter() - started
    torch.set_num_threads(threads)
    return done / elapsed


def timed(call: Callable[[], Any]) -> float:
    """Milliseconds of a call."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


async def timed_call(call: Awaitable[Any]) -> float:
    """Milliseconds until the answer is there."""
    started = time.perf_counter()
    await call
    return (time.perf_counter() - started) * 1000


async def clients_rate(stub: Any, photos: list[bytes], clients: int, seconds: float) -> float:
    """Each client sends its next picture when it has the answer to the last."""
    requests = [pb.EmbedImagesRequest(images=[pb.ImageInput(content=photo)]) for photo in photos]
    done, started = 0, time.perf_counter()

    async def client(number: int) -> None:
        nonlocal done
        while time.perf_counter() - started < seconds:
            response = await stub.EmbedImages(requests[(number * 17 + done) % len(requests)], timeout=60)
            assert not response.errors
            done += 1

    await asyncio.gather(*(client(number) for number in range(clients)))
    return done / (time.perf_counter() - started)


async def stream_rate(stub: Any, photos: list[bytes], seconds: float, batch: int = BATCH) -> float:
    """One stream of batches, as fast as flow control lets it."""
    started = time.perf_counter()

    async def requests() -> AsyncIterator[pb.EmbedStreamRequest]:
        number = 0
        while time.perf_counter() - started < seconds:
            chosen = [photos[(number * batch + i) % len(photos)] for i in range(batch)]
            images = pb.EmbedImagesRequest(images=[pb.ImageInput(content=photo) for photo in chosen])
            yield pb.EmbedStreamRequest(batch_id=number, images=images)
            number += 1

    done = 0
    async for answer in stub.EmbedStream(requests(), timeout=seconds + 120):
        assert not answer.images.errors
        done += batch
    return done / (time.perf_counter() - started)


def show(report: dict[str, Any]) -> None:
    """Print the table; each rate also as a multiple of both baselines."""
    rates = report["images_per_second"]
    first, best = rates[FIRST], max(rates[PIPELINED], rates[SIDE_BY_SIDE])
    title = f"{report['model']}, {report['device']}, {report['dtype']}, {report['cores']} cores"
    table = Table(title=title)
    for column in ("", "images/s", "x first loop", "x best loop"):
        table.add_column(column, justify="left" if not column else "right")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:.1f}", f"{rate / first:.2f}", f"{rate / best:.2f}")
    Console().print(table)
    idle = Table(title="one at a time on an idle service, median ms")
    for name in report["idle_milliseconds"]:
        idle.add_column(name, justify="right")
    idle.add_row(*(f"{value:.1f}" for value in report["idle_milliseconds"].values()))
    Console().print(idle)
    interactive = report["interactive_milliseconds"]
    table = Table(title="one interactive picture through gRPC, ms")
    for column in ("", "p50", "p99", "x idle p99"):
        table.add_column(column, justify="left" if not column else "right")
    for name, row in interactive.items():
        ratio = row["p99"] / interactive["idle"]["p99"]
        table.add_row(name, f"{row['p50']:.1f}", f"{row['p99']:.1f}", f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
