"""The whole path on real photos: index them, find them again, compose queries; beside the raw model.

Usage: python -m benchmarks.clothing [--photos DIR] [--architecture A] [--pretrained P] [--items N] [--json F]

DIR has images/ and images.csv (columns image and label, as in alexeygrigorev/clothing-dataset). The
baseline is the loop that a user writes first: open_clip in this process, one picture at a time, float32.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import grpc.aio
import numpy as np
from PIL import Image

from benchmarks._processes import Services, deployment
from cir.common.v1 import payload_pb2
from cir.search.v1 import filter_pb2, search_pb2, search_pb2_grpc
from cir.search.v1.search_pb2 import Reference, SearchRequest, Turn
from indexer.run import index
from indexer.sources.manifest import ManifestSource
from vector_store import open_store

DEFAULT_PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clothing"
CATALOG = "clothing"
TEXTS = ("in red", "with long sleeves", "a darker one with stripes", "made of denim", "for the summer")
TIMEOUT = 120.0

T = TypeVar("T")
Row = dict[str, str]


def read_rows(photos: Path, count: int) -> list[Row]:
    """Rows of images.csv whose photo is there, image as a path below the folder."""
    with (photos / "images.csv").open(newline="") as file:
        rows = [{**row, "image": f"images/{row['image']}.jpg"} for row in csv.DictReader(file)]
    there = [row for row in rows if (photos / row["image"]).is_file()]
    return there[:count] if count else there


def crop_and_compress(path: Path) -> bytes:
    """The photo without 10 % at its edges, as JPEG of quality 60."""
    with Image.open(path) as photo:
        picture = photo.convert("RGB")
    dx, dy = round(picture.width * 0.05), round(picture.height * 0.05)
    picture = picture.crop((dx, dy, picture.width - dx, picture.height - dy))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=60)
    return out.getvalue()


def raw_loop(rows: list[Row], photos: Path, architecture: str, seed: int) -> dict[str, float]:
    """open_clip called directly, one at a time: images/s, and ms of one picture with one text."""
    import open_clip
    import torch

    torch.manual_seed(seed)
    model, _, preprocess = open_clip.create_model_and_transforms(architecture)
    model.eval()
    tokenize = open_clip.get_tokenizer(architecture)

    def encode(row: Row, text: str = "") -> None:
        with torch.inference_mode():
            model.encode_image(preprocess(Image.open(photos / row["image"]))[None])
            if text:
                model.encode_text(tokenize([text]))

    encode(rows[0], TEXTS[0])
    started = time.perf_counter()
    for row in rows[:96]:
        encode(row)
    per_second = len(rows[:96]) / (time.perf_counter() - started)
    times = []
    for position, row in enumerate(rows[:64]):
        started = time.perf_counter()
        encode(row, TEXTS[position % len(TEXTS)])
        times.append(time.perf_counter() - started)
    return {"images_per_second": per_second, **percentiles(times)}


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    p50, p99 = np.percentile(np.array(seconds) * 1000, [50, 99])
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


async def each(inputs: Iterable[T], call: Callable[[T], Awaitable[None]], *, at_once: int) -> None:
    """Run `call` over all inputs, so many at once."""
    room = asyncio.Semaphore(at_once)

    async def one(value: T) -> None:
        async with room:
            await call(value)

    await asyncio.gather(*(one(value) for value in inputs))


class Checks:
    """Queries against the indexed catalog."""

    def __init__(self, stub: search_pb2_grpc.SearchServiceAsyncStub, rows: list[Row], photos: Path) -> None:
        self._stub = stub
        self._rows = rows
        self._photos = photos

    async def _search(self, **request: Any) -> search_pb2.SearchResponse:
        return await self._stub.Search(
            SearchRequest(parent=f"catalogs/{CATALOG}", **request), timeout=TIMEOUT
        )

    async def itself(self) -> tuple[int, list[str]]:
        """How many photos are the nearest to themselves; which ones only share their place with another."""
        found, tied = 0, list[str]()

        async def one(row: Row) -> None:
            nonlocal found
            image = (self._photos / row["image"]).read_bytes()
            answer = await self._search(turns=[Turn(reference=Reference(image=image))], limit=5)
            best = answer.results[0].score
            if answer.results[0].item.id == row["image"]:
                found += 1
            elif any(r.item.id == row["image"] and best - r.score < 1e-5 for r in answer.results):
                tied.append(row["image"])

        await each(self._rows, one, at_once=8)
        return found, tied

    async def after_damage(self) -> tuple[int, int]:
        """How many cropped and compressed photos find their original first, and in the top 10."""
        first = top = 0

        async def one(row: Row) -> None:
            nonlocal first, top
            image = await asyncio.to_thread(crop_and_compress, self._photos / row["image"])
            answer = await self._search(turns=[Turn(reference=Reference(image=image))], limit=10)
            ids = [result.item.id for result in answer.results]
            first += ids[0] == row["image"]
            top += row["image"] in ids

        await each(self._rows, one, at_once=8)
        return first, top

    async def labels(self) -> tuple[int, int]:
        """Labels that were filtered by, and results that had another one."""
        names = sorted({row["label"] for row in self._rows})
        wrong = 0
        for name in names:
            match = filter_pb2.MatchAny(field="label", values=[payload_pb2.Value(string_value=name)])
            answer = await self._search(
                turns=[Turn(text=name)],
                limit=100,
                filter=filter_pb2.Filter(must=[filter_pb2.Condition(match_any=match)]),
            )
            expected = min(100, sum(row["label"] == name for row in self._rows))
            if len(answer.results) != expected:
                raise RuntimeError(f"{len(answer.results)} results for {name}, expected {expected}")
            wrong += sum(r.item.payload.fields["label"].string_value != name for r in answer.results)
        return len(names), wrong

    async def composed(self, count: int) -> dict[str, Any]:
        """Latency of picture + text queries, one after another, with pictures never sent before.

        `rest_p50_ms` is what the client waits less the longer of the two encodings, which run side by side,
        and less the store: combining, folding turns, and gRPC on the way.
        """
        times: list[float] = []
        rests: list[float] = []
        stages: dict[str, list[float]] = {}
        for position, row in enumerate((self._rows * 2)[:count]):
            image = crop_and_compress(self._photos / row["image"]) + b"\0" * (position % 7)
            text = f"{TEXTS[position % len(TEXTS)]}, {position}"
            started = time.perf_counter()
            answer = await self._search(turns=[Turn(reference=Reference(image=image), text=text)])
            times.append(time.perf_counter() - started)
            took = {field.name: each.ToNanoseconds() / 1e6 for field, each in answer.timings.ListFields()}
            for name, milliseconds in took.items():
                stages.setdefault(name, []).append(milliseconds)
            encoding = max(took.get("embed_images", 0.0), took.get("embed_texts", 0.0))
            rests.append(times[-1] * 1e3 - encoding - took.get("store", 0.0))
        return {
            **percentiles(times),
            "rest_p50_ms": float(np.median(rests)),
            "stages_p50_ms": {name: round(float(np.median(values)), 2) for name, values in stages.items()},
        }

    async def by_item(self, count: int) -> dict[str, float]:
        """Latency of item + text queries: the reference is not encoded again."""
        times = []
        for position, row in enumerate(self._rows[:count]):
            text = f"{TEXTS[position % len(TEXTS)]} {position}"
            started = time.perf_counter()
            await self._search(turns=[Turn(reference=Reference(item_id=row["image"]), text=text)])
            times.append(time.perf_counter() - started)
        return percentiles(times)


async def measure(services: Services, rows: list[Row], photos: Path, folder: Path) -> dict[str, Any]:
    """Index, then query."""
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "label", "kids"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    store = open_store(services.store)
    try:
        report = await index(ManifestSource(manifest, root=photos), CATALOG, store, services.embedder)
    finally:
        await store.close()
    async with grpc.aio.insecure_channel(services.search) as channel:
        checks = Checks(search_pb2_grpc.SearchServiceStub(channel), rows, photos)
        found, tied = await checks.itself()
        first, top = await checks.after_damage()
        labels, wrong = await checks.labels()
        return {
            "photos": len(rows),
            "indexed": report.indexed,
            "rejected": report.rejected,
            "index_images_per_second": report.images_per_second,
            "nearest_is_itself": found,
            "nearest_is_a_copy": len(tied),
            "damaged_first": first,
            "damaged_top_10": top,
            "labels": labels,
            "results_of_another_label": wrong,
            "composed_image_text": await checks.composed(200),
            "composed_item_text": await checks.by_item(200),
        }


def report(result: dict[str, Any], baseline: dict[str, float]) -> None:
    """Print what was measured."""
    n = result["photos"]
    rate, raw = result["index_images_per_second"], baseline["images_per_second"]
    print(f"photos {n}: indexed {result['indexed']}, rejected {result['rejected']}")
    print(f"indexing           {rate:8.1f} images/s   raw open_clip loop {raw:8.1f}   ratio {rate / raw:.2f}")
    print(f"nearest is itself  {result['nearest_is_itself']}/{n} (+{result['nearest_is_a_copy']} copies)")
    print(f"crop 10 %, JPEG 60 {result['damaged_first']}/{n} first, {result['damaged_top_10']}/{n} in top 10")
    print(f"filter by label    {result['labels']} labels, {result['results_of_another_label']} wrong results")
    for name in ("composed_image_text", "composed_item_text"):
        print(f"{name:18} p50 {result[name]['p50_ms']:.1f} ms, p99 {result[name]['p99_ms']:.1f} ms")
    print(f"raw image + text   p50 {baseline['p50_ms']:.1f} ms, p99 {baseline['p99_ms']:.1f} ms (encoders)")
    rest = result["composed_image_text"]["rest_p50_ms"]
    print(f"composed query less encoding less store, p50 {rest:.1f} ms (goal: at most 5)")
    print(f"stages p50, ms     {result['composed_image_text']['stages_p50_ms']}")


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--photos", type=Path, default=DEFAULT_PHOTOS)
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument(
        "--pretrained", default="random:0", help="for the services; the baseline is untrained"
    )
    parser.add_argument("--items", type=int, default=0, help="photos to use; 0 takes all")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not (arguments.photos / "images.csv").is_file():
        print(f"no photos in {arguments.photos}: nothing measured; name a folder with --photos")
        return 0
    rows = read_rows(arguments.photos, arguments.items)
    baseline = raw_loop(rows, arguments.photos, arguments.architecture, 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with deployment(
            folder, architecture=arguments.architecture, pretrained=arguments.pretrained
        ) as services:
            result = asyncio.run(measure(services, rows, arguments.photos, folder))
    report(result, baseline)
    if arguments.json:
        arguments.json.write_text(json.dumps({"result": result, "baseline": baseline}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
