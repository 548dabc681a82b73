"""Searches a second behind one search service, with 1, 2 and 4 embedder replicas of fixed capacity.

    python -m benchmarks.scaling [--milliseconds 40] [--seconds 8] [--json FILE]

The embedders are stand-ins that take one text at a time and sleep over it, so that they need no cores: what
is measured is how the search service, its channel and its balancing divide the work. The baseline is one
replica, and beside it stands what the replicas' sleep alone would allow.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks._processes import running
from benchmarks.indexer_overhead import index_once
from cir.async_client import AsyncClient

REPLICAS = (1, 2, 4)
CLIENTS_PER_REPLICA = 6
ITEMS = 64


def main() -> None:
    """Measure, print a table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--milliseconds", type=float, default=40, help="that an embedder takes for a text")
    parser.add_argument("--seconds", type=float, default=8, help="time for each number of replicas")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    rates: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        addresses = [
            stack.enter_context(sleeping_embedder(options.milliseconds / 1000)) for _ in range(max(REPLICAS))
        ]
        pictures = folder / "pictures"
        pictures.mkdir()
        for number in range(ITEMS):
            Image.new("RGB", (32, 32), (number, 0, 0)).save(pictures / f"{number}.jpg")
        index_once(pictures, folder / "data", addresses[0])
        with running("combiner_service", {"LOG_LEVEL": "warning"}, log=folder / "combiner.log") as combiner:
            for replicas in REPLICAS:
                environment = {
                    "EMBEDDER": "ipv4:" + ",".join(addresses[:replicas]),
                    "COMBINER": combiner.address,
                    "STORE": f"edge://{folder / 'data'}",
                    "LOG_LEVEL": "warning",
                }
                with running("search_service", environment, log=folder / "search.log") as search:
                    rates[replicas] = asyncio.run(
                        searches_a_second(search.address, replicas * CLIENTS_PER_REPLICA, options.seconds)
                    )
    report = {
        "milliseconds": options.milliseconds,
        "searches_per_second": rates,
        "of_linear": {n: rate / (n * rates[1]) for n, rate in rates.items()},
        "of_sleep_alone": {n: rate * options.milliseconds / 1000 / n for n, rate in rates.items()},
    }
    table = Table("embedder replicas", "searches/s", "of linear", "of what their sleep allows")
    for replicas, rate in rates.items():
        shares = (report["of_linear"][replicas], report["of_sleep_alone"][replicas])
        table.add_row(str(replicas), f"{rate:.1f}", *(f"{share:.3f}" for share in shares))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


@contextmanager
def sleeping_embedder(seconds: float) -> Iterator[str]:
    """The stand-in as a process of its own; yields "host:port"."""
    command: Sequence[str] = [sys.executable, "-m", "benchmarks._sleeping_embedder", str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None  # it was asked for
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(10)


async def searches_a_second(address: str, clients: int, seconds: float) -> float:
    """Closed loop: each client sends its next search when the last was answered."""
    numbers = count()
    answered = 0
    async with AsyncClient(address) as client:
        await asyncio.gather(
            *(client.search("benchmark", text=f"warm {n}", page_size=5) for n in range(clients))
        )
        began = time.perf_counter()
        ends = began + seconds

        async def one() -> None:
            nonlocal answered
            while time.perf_counter() < ends:
                await client.search("benchmark", text=f"text {next(numbers)}", page_size=5)
                answered += 1

        await asyncio.gather(*(one() for _ in range(clients)))
        return answered / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
