"""Images per second of indexing a folder, beside two baselines of the same run.

    python -m benchmarks.indexer [--images 256] [--architecture ViT-B-32] [--json FILE]

- `loop`: what one writes first. open_clip in float32: decode, preprocess, encode, one picture at a time.
- `embedder`: the embedder's own rate over gRPC, the same pictures sent from memory in bulk batches.
- `index`: from the folder to a published version, vector index and verification included.

The embedder is a process of its own, as in use, with its cache of pictures off. `embedder` and `index` take
turns, and the median of each counts. Weights are random: they cost what trained ones cost.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks._processes import service
from indexer import FolderSource, IndexingOptions, index
from indexer.embed import open_embedder
from indexer.items import LoadedItem
from indexer.sources.base import SourceItem
from vector_store import open_store

PHOTOS = Path(__file__).parents[2] / "shared/data/clothing/images"


def gather(source: Path, count: int, folder: Path) -> str:
    """Put `count` pictures into `folder`: photos of `source`, or drawn ones where it does not exist."""
    if source.is_dir():
        found = sorted(path for path in source.iterdir() if path.suffix == ".jpg")[:count]
        for path in found:
            shutil.copyfile(path, folder / path.name)
        return f"{len(found)} photos"
    noise = np.random.default_rng(0)
    for number in range(count):
        coarse = noise.integers(0, 256, (16, 12, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((400, 533)).save(folder / f"{number:06d}.jpg", quality=90)
    return f"{count} drawn pictures"


def loop_rate(contents: Sequence[bytes], architecture: str) -> tuple[float, float]:
    """Images per second of the plain open_clip loop, and its CPU seconds an image."""
    import open_clip
    import torch

    model, _, preprocess = open_clip.create_model_and_transforms(architecture, pretrained=None)
    model.eval()

    def encode(content: bytes) -> None:
        with torch.inference_mode():
            model.encode_image(preprocess(Image.open(io.BytesIO(content))).unsqueeze(0))

    encode(contents[0])
    started, used = time.perf_counter(), time.process_time()
    for content in contents:
        encode(content)
    return len(contents) / (time.perf_counter() - started), (time.process_time() - used) / len(contents)


async def embedder_rate(contents: Sequence[bytes], address: str, options: IndexingOptions) -> float:
    """Images per second of the embedder alone, with as many calls in flight as the indexer has."""
    items = [LoadedItem(SourceItem(str(n), Path(), "", {}), content) for n, content in enumerate(contents)]
    async with open_embedder(address, options) as embedder:
        waiting = iter(
            [items[i : i + options.batch_items] for i in range(0, len(items), options.batch_items)]
        )

        async def send() -> None:
            for batch in waiting:
                await embedder.embed(batch)

        started = time.perf_counter()
        await asyncio.gather(*(send() for _ in range(options.calls_in_flight)))
        return len(items) / (time.perf_counter() - started)


async def index_rate(folder: Path, data: Path, address: str, options: IndexingOptions) -> float:
    """Images per second from the folder to a published version, the survey of the folder included."""
    store = open_store(f"edge://{data}")
    try:
        started = time.perf_counter()
        kept = replace(options, ledger_path=data / "ledger.sqlite")
        report = await index(FolderSource(folder), "benchmark", store, address, kept)
        seconds = time.perf_counter() - started
    finally:
        await store.close()
    if not report.complete:
        raise SystemExit(f"{report.rejected} pictures were rejected: {dict(report.reject_reasons)}")
    return report.indexed / seconds


async def take_turns(
    contents: Sequence[bytes], folder: Path, scratch: Path, address: str, rounds: int
) -> tuple[str, float, float]:
    """The embedder's dtype, and the median rates of the embedder alone and of indexing."""
    options = IndexingOptions()
    alone, indexed = [], []
    async with open_embedder(address, options) as embedder:
        dtype = embedder.model.dtype
    await embedder_rate(contents[: 2 * options.batch_items], address, options)  # warm-up
    for turn in range(rounds):
        alone.append(await embedder_rate(contents, address, options))
        indexed.append(await index_rate(folder, scratch / f"data{turn}", address, options))
    return dtype, statistics.median(alone), statistics.median(indexed)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run everything; returns the figures by name."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "pictures")
        folder.mkdir()
        pictures = gather(arguments.data, arguments.images, folder)
        contents = [path.read_bytes() for path in sorted(folder.iterdir())]
        loop, _ = loop_rate(contents[: arguments.loop_images], arguments.architecture)
        environment = {
            "ARCHITECTURE": arguments.architecture,
            "PRETRAINED": "random:0",
            "DTYPE": arguments.dtype,
            "LOG_LEVEL": "warning",
            # Every picture is sent several times; each time it has to cost what it costs.
            "IMAGE_CACHE_ITEMS": "0",
        }
        with service(
            "embedder_service",
            environment,
            ready="cir.embedder.v1.EmbedderService",
            log=Path(scratch, "embedder.log"),
        ) as address:
            dtype, alone, indexed = asyncio.run(
                take_turns(contents, folder, Path(scratch), address, arguments.rounds)
            )
    return {
        "pictures": pictures,
        "architecture": arguments.architecture,
        "dtype": dtype,
        "cores": len(os.sched_getaffinity(0)),
        "rounds": arguments.rounds,
        "images_per_second": {
            "loop": round(loop, 2),
            "embedder": round(alone, 2),
            "index": round(indexed, 2),
        },
        "index_over_embedder": round(indexed / alone, 3),
        "index_over_loop": round(indexed / loop, 2),
    }


def main() -> None:
    """Measure, print a table, write JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=256, help="pictures to index")
    parser.add_argument("--loop-images", type=int, default=48, help="pictures for the plain loop")
    parser.add_argument("--rounds", type=int, default=3, help="turns of embedder and index")
    parser.add_argument("--architecture", default="ViT-B-32", help="open_clip architecture")
    parser.add_argument("--dtype", default="auto", help="type that the embedder computes in")
    parser.add_argument("--data", type=Path, default=PHOTOS, help="folder of .jpg files")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    figures = measure(arguments)
    rates = figures["images_per_second"]
    print(
        f"{figures['pictures']}, {figures['architecture']}, embedder in {figures['dtype']}, "
        f"{figures['cores']} cores, median of {figures['rounds']}"
    )
    for name, text in (
        ("loop", "open_clip loop, float32, one at a time"),
        ("embedder", "embedder alone, gRPC, from memory"),
        ("index", "folder to published version"),
    ):
        print(f"  {text:<40} {rates[name]:>8.1f} images/s  {rates[name] / rates['loop']:>5.2f} x loop")
    print(f"  index / embedder {figures['index_over_embedder']}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
