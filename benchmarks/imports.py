"""Images per second of ImportItems from a client, beside `cir index` over the same images in the same run.

    python -m benchmarks.imports [--images 512] [--rounds 5] [--go] [--json FILE]

- `index`: the indexer, from the folder to a published version; the baseline.
- `import`: a client reads the same files and imports them over gRPC through the search service; the version
  is finished and published.
- `go`, with `--go`: the same by clients/go/examples/catalog, a program without Python.

They take turns, with the same embedder (the shipped model, its cache off) and an embedded store each; the
median of the ratios of each turn counts, and the CPU time of all processes but the Go program. `--null`
measures with an embedder that computes nothing, and whose CPU time is not counted, which shows the overhead
alone. Goal with the shipped model: 0.9 of `index`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cir
from benchmarks._processes import running
from benchmarks.indexer import PHOTOS, gather, index_rate
from benchmarks.indexer_overhead import null_embedder
from indexer import IndexingOptions

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = {
    "ARCHITECTURE": "cir-small",
    "PRETRAINED": "shipped",
    "LOG_LEVEL": "warning",
    # Every image is sent several times; each time it has to cost what it costs.
    "IMAGE_CACHE_ITEMS": "0",
}


def cpu_seconds(*pids: int) -> float:
    """CPU time of this process and of others so far. Linux only."""
    used = time.process_time()
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used


def import_rate(folder: Path, address: str, catalog: str, count: int | None = None) -> float:
    """Images per second from a folder (or its first ones) to a published version, by the blocking client."""
    paths = sorted(folder.iterdir())[:count]
    with cir.Client(address) as client:
        started = time.perf_counter()
        client.create_catalog(catalog, schema={"filename": "keyword"})
        version = client.create_version(catalog).name
        items = (cir.ItemWrite(path.name, path, payload={"filename": path.name}) for path in paths)
        done = client.import_items(catalog, version, items)
        client.finish_version(catalog, version, expected_items=len(paths), timeout=600)
        client.publish(catalog, version)
        seconds = time.perf_counter() - started
    if done.written != len(paths):
        raise SystemExit(f"{done.rejected} images were rejected: {done.errors[:1]}")
    return len(paths) / seconds


def build_program(folder: Path) -> Path:
    """Build the Go program that makes a catalog of a folder."""
    program = folder / "catalog"
    command = ["go", "build", "-o", str(program), "./examples/catalog"]
    subprocess.run(command, cwd=ROOT / "clients" / "go", check=True)
    return program


def program_rate(program: Path, folder: Path, address: str, catalog: str) -> float:
    """Images per second from the folder to a published version, by the Go program, its start included."""
    command = [str(program), "-server", address, "-catalog", catalog, str(folder)]
    started = time.perf_counter()
    said = subprocess.run(command, cwd=program.parent, check=True, capture_output=True, text=True).stdout
    seconds = time.perf_counter() - started
    count = len(list(folder.iterdir()))
    if f"is published: {count} items, 0 left out" not in said:
        raise SystemExit(said)
    return count / seconds


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run everything; returns the figures by name."""
    indexed, imported, cpu = [], [], []
    by_program: list[float] = []
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch, "images")
        folder.mkdir()
        images = gather(arguments.data, arguments.images, folder)
        count = len(list(folder.iterdir()))
        log = Path(scratch, "log")
        pids = []
        if arguments.null:
            embedder = stack.enter_context(null_embedder())
        else:
            started = stack.enter_context(running("embedder_service", SHIPPED, log=log))
            embedder = started.address
            pids.append(started.process.pid)
        store = f"edge://{Path(scratch, 'imported')}"
        service = stack.enter_context(
            running("search_service", {"EMBEDDER": embedder, "STORE": store, "LOG_LEVEL": "warning"}, log=log)
        )
        search = service.address
        pids.append(service.process.pid)
        import_rate(folder, search, "warm-up", 128)
        program = build_program(Path(scratch)) if arguments.go else None
        for turn in range(arguments.rounds):
            data = Path(scratch, f"data{turn}")
            before = cpu_seconds(*pids)
            indexed.append(asyncio.run(index_rate(folder, data, embedder, IndexingOptions())))
            between = cpu_seconds(*pids)
            imported.append(import_rate(folder, search, f"turn{turn}"))
            cpu.append((between - before, cpu_seconds(*pids) - between))
            if program is not None:
                by_program.append(program_rate(program, folder, search, f"go{turn}"))
    ratios = [ours / theirs for ours, theirs in zip(imported, indexed, strict=True)]
    return {
        "images": images,
        "embedder": "null" if arguments.null else "shipped",
        "cores": len(os.sched_getaffinity(0)),
        "rounds": arguments.rounds,
        "images_per_second": {
            "index": round(statistics.median(indexed), 1),
            "import": round(statistics.median(imported), 1),
            **({"go": round(statistics.median(by_program), 1)} if by_program else {}),
        },
        "import_over_index": round(statistics.median(ratios), 3),
        "cpu_ms_per_image": {
            "index": round(statistics.median(first for first, _ in cpu) / count * 1e3, 2),
            "import": round(statistics.median(second for _, second in cpu) / count * 1e3, 2),
        },
        "ratios": [round(ratio, 3) for ratio in sorted(ratios)],
    }


def main() -> None:
    """Measure, print a table, write JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=512, help="images to index and to import")
    parser.add_argument("--rounds", type=int, default=5, help="turns of index and import")
    parser.add_argument("--go", action="store_true", help="import by the Go program, too")
    parser.add_argument("--null", action="store_true", help="an embedder that computes nothing")
    parser.add_argument("--data", type=Path, default=PHOTOS, help="folder of .jpg files")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    figures = measure(arguments)
    rates = figures["images_per_second"]
    print(
        f"{figures['images']}, {figures['embedder']} embedder, {figures['cores']} cores, "
        f"median of {figures['rounds']} turns"
    )
    print(f"  cir index, folder to published version   {rates['index']:>8.1f} images/s")
    print(f"  ImportItems, the same by a client        {rates['import']:>8.1f} images/s")
    if "go" in rates:
        print(f"  the same by the Go program               {rates['go']:>8.1f} images/s")
    used = figures["cpu_ms_per_image"]
    print(f"  CPU an image, all processes: index {used['index']} ms, import {used['import']} ms")
    print(f"  import / index {figures['import_over_index']} (each turn: {figures['ratios']})")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
