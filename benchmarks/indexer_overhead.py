"""What indexing costs beside encoding: a first and a second run with an embedder that computes nothing.

    python -m benchmarks.indexer_overhead [--data FOLDER] [--json FILE]

- `embedder`: pictures sent from memory to the null embedder over gRPC, as many calls in flight as the indexer
  has; the baseline, for nothing but transport is in it.
- `first`: the same pictures from the folder to a published version on an embedded store.
- `second cold`: a run over the unchanged folder in a fresh process, the files dropped from the page cache.
- `second warm`: the same again. Goal for 2,572 photos: under 5 s.
- `walk`: listing and looking at the files alone, which is the least that a second run must do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.indexer import PHOTOS, embedder_rate, gather
from indexer import FolderSource, IndexingOptions
from indexer.sources.base import SourceItem


@contextmanager
def null_embedder() -> Iterator[str]:
    """The null embedder as a process of its own; yields "host:port"."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks._null_embedder"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None  # it was asked for
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(10)


def index_once(folder: Path, data: Path, address: str) -> dict[str, Any]:
    """A run in a fresh process: its report, and `wall`, which includes starting Python."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks._index_once", str(folder), str(data), address],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    figures: dict[str, Any] = json.loads(done.stdout)
    return {**figures, "wall": time.perf_counter() - started}


def drop_from_cache(*folders: Path) -> None:
    """Let the kernel forget what is in files below folders, as far as it has written it."""
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fdatasync(file.fileno())
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def walk(folder: Path) -> float:
    """Seconds to list the pictures and look at each."""
    started = time.perf_counter()
    for item in FolderSource(folder).items():
        if isinstance(item, SourceItem):
            item.image_ref.stat()
    return time.perf_counter() - started


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run everything; returns the figures by name."""
    with tempfile.TemporaryDirectory() as scratch, null_embedder() as address:
        folder, data = Path(scratch, "pictures"), Path(scratch, "data")
        folder.mkdir()
        pictures = gather(arguments.data, arguments.images, folder)
        contents = [path.read_bytes() for path in sorted(folder.iterdir())]
        alone = asyncio.run(embedder_rate(contents, address, IndexingOptions()))
        first = index_once(folder, data, address)
        drop_from_cache(folder, data)
        cold = index_once(folder, data, address)
        warm = [index_once(folder, data, address) for _ in range(3)]
        walked = walk(folder)
    if cold["published"] or warm[-1]["published"] or not first["published"]:
        raise SystemExit("a run over an unchanged folder published something")
    count = first["read"]
    return {
        "pictures": pictures,
        "cores": len(os.sched_getaffinity(0)),
        "embedder_images_per_second": round(alone, 1),
        "first_images_per_second": round(count / first["seconds"], 1),
        "overhead_ms_per_image": round((first["seconds"] - count / alone) / count * 1e3, 3),
        "seconds": {
            "first": round(first["seconds"], 2),
            "second_cold": round(cold["seconds"], 2),
            "second_cold_with_start": round(cold["wall"], 2),
            "second_warm": round(min(run["seconds"] for run in warm), 2),
            "second_warm_with_start": round(min(run["wall"] for run in warm), 2),
            "walk": round(walked, 3),
        },
    }


def main() -> None:
    """Measure, print a table, write JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=2572, help="pictures to index")
    parser.add_argument("--data", type=Path, default=PHOTOS, help="folder of .jpg files")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    figures = measure(arguments)
    print(f"{figures['pictures']}, null embedder, {figures['cores']} cores")
    print(f"  null embedder alone, from memory      {figures['embedder_images_per_second']:>9.1f} images/s")
    print(f"  folder to published version           {figures['first_images_per_second']:>9.1f} images/s")
    print(f"  overhead beside the embedder          {figures['overhead_ms_per_image']:>9.3f} ms/image")
    for name, seconds in figures["seconds"].items():
        print(f"  {name.replace('_', ' '):<37} {seconds:>9.2f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
