"""The runtimes of the embedder beside one another: OpenVINO without torch, and torch, by turns in one run.

    python -m benchmarks.runtimes [--folder MODEL_FOLDER] [--dtypes float32 bfloat16 int8] [--json FILE]

For each dtype both run as processes of their own, with their caches off: images through gRPC at several
clients, one text on an idle service, and indexing a folder beside a loop over open_clip. The weights are
random, exported to a model folder first where none is given. Besides rates each row has the CPU time of the
service's processes, which a busy machine changes little. Last, what the shipped models hold at rest: embedder
and combiner by OpenVINO, and the embedder by torch, as a user starts them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks._processes import Running, running
from benchmarks.embedder_service import TEXT, clients_rate, read_photos, timed_call
from benchmarks.indexer import PHOTOS, gather, index_rate, loop_rate
from cir.channel import open_async_channel
from cir.embedder.v1 import embedder_pb2 as pb
from cir.embedder.v1.embedder_pb2_grpc import EmbedderServiceStub
from embedder_service.batching.scheduling import RECENT_SECONDS
from embedder_service.host import multiplies_bfloat16
from embedder_service.settings import EmbedderSettings
from indexer import IndexingOptions

TORCH, LIGHT = "torch", "openvino"
_TEXTS = 50
_MIB = 1 << 20
# After which an image worker without work has ended (service_runtime/image_reader.py).
_AT_REST_SECONDS = 35.0


def main() -> None:
    """Measure, print tables, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument("--folder", type=Path, help="model folder of the architecture with weights random:0")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16", "int8"])
    parser.add_argument("--clients", nargs="+", type=int, default=[8, 32])
    parser.add_argument("--seconds", type=float, default=6, help="time for each row in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=256, help="images to index; 0 leaves that out")
    parser.add_argument("--loop-images", type=int, default=48, help="images for the loop over open_clip")
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="folder of .jpg files")
    parser.add_argument("--no-rest", action="store_true", help="leave the memory at rest out")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    report: dict[str, Any] = {"architecture": options.architecture, "cores": os.cpu_count(), "dtypes": {}}
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        folder = options.folder or exported(options.architecture, work / "model")
        (work / "images").mkdir()
        gather(options.photos, options.images or 64, work / "images")
        photos = read_photos(work / "images")
        if options.images:
            rate, seconds = loop_rate(photos[: options.loop_images], options.architecture)
            report["loop"] = {"images_per_second": rate, "cpu_seconds": seconds}
        for dtype in options.dtypes:
            if dtype == "bfloat16" and not multiplies_bfloat16():
                continue
            report["dtypes"][dtype] = of_dtype(dtype, folder, work, photos, options)
            show(dtype, report)
        show_automatic(report)
        if not options.no_rest:
            report["at_rest_mib"] = at_rest(work)
            show_rest(report["at_rest_mib"])
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def exported(architecture: str, folder: Path) -> Path:
    """Write a model folder of the architecture with random weights."""
    from embedder_service.model.export import export

    settings = {"architecture": architecture, "pretrained": "random:0"}
    return export(EmbedderSettings.model_validate(settings), folder).folder


def of_dtype(
    dtype: str, folder: Path, work: Path, photos: list[bytes], options: argparse.Namespace
) -> dict[str, dict[str, dict[str, float]]]:
    """Return rates and CPU seconds by row and runtime; medians over the rounds."""
    by_name = {"ARCHITECTURE": options.architecture, "PRETRAINED": "random:0", "RUNTIME": TORCH}
    by_folder = {"ARCHITECTURE": str(folder), "PRETRAINED": "auto", "RUNTIME": LIGHT}
    common = {
        "DTYPE": dtype,
        "IMAGE_CACHE_ITEMS": "0",
        "TEXT_CACHE_ITEMS": "0",
        # Nothing is refused, however slow the machine is.
        "MAX_WAIT_SECONDS": "600",
        "LOG_LEVEL": "warning",
    }
    with ExitStack() as stack:
        services = {
            name: stack.enter_context(
                running("embedder_service", chosen | common, log=work / f"{name}-{dtype}.log")
            )
            for name, chosen in ((TORCH, by_name), (LIGHT, by_folder))
        }
        return asyncio.run(by_turns(services, dtype, work, photos, options))


async def by_turns(
    services: dict[str, Running], dtype: str, work: Path, photos: list[bytes], options: argparse.Namespace
) -> dict[str, dict[str, dict[str, float]]]:
    """Measure each row on one service after the other, round by round."""
    found: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    text = pb.EmbedTextsRequest(texts=[TEXT])
    async with (
        open_async_channel(services[TORCH].address) as one,
        open_async_channel(services[LIGHT].address) as other,
    ):
        stubs = {TORCH: EmbedderServiceStub(one), LIGHT: EmbedderServiceStub(other)}
        for round_ in range(options.rounds):
            names = [TORCH, LIGHT] if round_ % 2 == 0 else [LIGHT, TORCH]
            for clients in options.clients:
                for name in names:

                    async def images(name: str = name, clients: int = clients) -> tuple[float, float]:
                        began = time.perf_counter()
                        rate = await clients_rate(stubs[name], photos, clients, options.seconds)
                        # The last calls end later.
                        return rate, rate * (time.perf_counter() - began)

                    row = f"{clients} clients, images/s"
                    await note(found, row, name, services[name], images)
            # While interactive calls are remembered, bulk work is held back.
            await asyncio.sleep(RECENT_SECONDS)
            used = {name: cpu_seconds(service.process.pid) for name, service in services.items()}
            for _ in range(_TEXTS):
                # Call by call in turns: both see the same machine.
                for name in names:
                    value = await timed_call(stubs[name].EmbedTexts(text, timeout=60))
                    found["one text, ms", name, "value"].append(value)
            for name, service in services.items():
                milliseconds = (cpu_seconds(service.process.pid) - used[name]) * 1000
                found["one text, ms", name, "cpu_ms"].append(milliseconds / _TEXTS)
    if options.images:
        for round_ in range(options.rounds):
            for name in (TORCH, LIGHT):

                async def indexed(name: str = name, round_: int = round_) -> tuple[float, float]:
                    data = work / f"{dtype}-{name}-{round_}"
                    settings = IndexingOptions()
                    rate = await index_rate(work / "images", data, services[name].address, settings)
                    return rate, options.images

                await note(found, "index, images/s", name, services[name], indexed)
    rows: defaultdict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for (row, name, kind), values in found.items():
        rows[row].setdefault(name, {})[kind] = statistics.median(values)
    for name, service in services.items():
        rows["memory at the end, MiB"].setdefault(name, {})["value"] = memory(service.process.pid) / _MIB
    return dict(rows)


async def note(
    found: dict[tuple[str, str, str], list[float]],
    row: str,
    name: str,
    service: Running,
    measure: Callable[[], Awaitable[tuple[float, float]]],
) -> None:
    """Add a value, and the CPU milliseconds of the service for each item of it."""
    before = cpu_seconds(service.process.pid)
    value, items = await measure()
    found[row, name, "value"].append(value)
    found[row, name, "cpu_ms"].append((cpu_seconds(service.process.pid) - before) * 1000 / items)


def at_rest(work: Path) -> dict[str, float]:
    """Return the memory of the shipped services, in MiB, when they have had nothing to do for a while."""
    shipped = {"ARCHITECTURE": "cir-small", "PRETRAINED": "shipped", "LOG_LEVEL": "warning"}
    combiner = {
        "CHECKPOINT_DIR": "shipped",
        "DEFAULT_COMBINER": "combiner/garments",
        "LOG_LEVEL": "warning",
    }
    found = {}
    with ExitStack() as stack:
        light = shipped | {"RUNTIME": LIGHT}
        both = (
            stack.enter_context(running("embedder_service", light, log=work / "rest.log")),
            stack.enter_context(running("combiner_service", combiner, log=work / "rest-combiner.log")),
        )
        time.sleep(_AT_REST_SECONDS)
        found["embedder + combiner, openvino"] = sum(memory(one.process.pid) for one in both) / _MIB
    with running("embedder_service", shipped | {"RUNTIME": TORCH}, log=work / "rest-torch.log") as old:
        time.sleep(_AT_REST_SECONDS)
        found["embedder alone, torch"] = memory(old.process.pid) / _MIB
    return found


def processes(pid: int) -> list[int]:
    """Return a process and its children. Linux only."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    return [pid, *(int(child) for path in children for child in path.read_text().split())]


def memory(pid: int) -> int:
    """Return the bytes that a service's processes hold, pages that others hold too by their share."""
    rollups = [Path(f"/proc/{one}/smaps_rollup").read_text() for one in processes(pid)]
    return sum(
        int(kib) << 10 for text in rollups for kib in re.findall(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    )


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a service's processes have used."""
    ticks = 0
    for one in processes(pid):
        # The name, in brackets, may hold blanks.
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def show(dtype: str, report: dict[str, Any]) -> None:
    """Print the table of a dtype."""
    table = Table(
        title=f"{report['architecture']}, {dtype}, {report['cores']} cores; CPU ms is the service's, an item"
    )
    for column in ("", TORCH, LIGHT, f"{LIGHT} / {TORCH}", f"CPU ms, {TORCH}", f"CPU ms, {LIGHT}"):
        table.add_column(column, justify="right" if column else "left")
    for row, runtimes in report["dtypes"][dtype].items():
        one, other = runtimes[TORCH], runtimes[LIGHT]
        cpu = [f"{value['cpu_ms']:.1f}" if "cpu_ms" in value else "" for value in (one, other)]
        table.add_row(
            row, f"{one['value']:.1f}", f"{other['value']:.1f}", f"{other['value'] / one['value']:.2f}", *cpu
        )
    if "loop" in report:
        loop = report["loop"]
        rate = report["dtypes"][dtype]["index, images/s"][LIGHT]["value"]
        table.add_row(
            "loop over open_clip, float32, images/s",
            f"{loop['images_per_second']:.1f}",
            "",
            f"index: {rate / loop['images_per_second']:.2f}",
            f"{loop['cpu_seconds'] * 1000:.1f}",
        )
    Console(width=118).print(table)


def show_automatic(report: dict[str, Any]) -> None:
    """Print what each dtype of OpenVINO makes of torch's rates in the dtype that it takes by itself here."""
    automatic = "bfloat16" if multiplies_bfloat16() else "float32"
    if automatic not in report["dtypes"]:
        return
    table = Table(title=f"times torch in {automatic}")
    for column in ("", *report["dtypes"]):
        table.add_column(f"{LIGHT}, {column}" if column else "", justify="right" if column else "left")
    for row, runtimes in report["dtypes"][automatic].items():
        base = runtimes[TORCH]["value"]
        others = (rows[row][LIGHT]["value"] / base for rows in report["dtypes"].values())
        table.add_row(row, *(f"{value:.2f}" for value in others))
    Console(width=118).print(table)


def show_rest(found: dict[str, float]) -> None:
    """Print what is held at rest."""
    for name, mib in found.items():
        print(f"cir-small at rest, {name}: {mib:.0f} MiB")


if __name__ == "__main__":
    main()
