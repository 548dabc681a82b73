"""A query over HTTP beside the same query over gRPC.

    python -m benchmarks.http_gateway [--calls 200] [--seconds 5]

Queries by features that nobody has asked before, over drawn garments: one at a time, by turns, then 16
clients over each door for some seconds, by turns. No model runs, so that what differs is the door.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import httpx
import numpy as np

from benchmarks._garments_up import CATALOG, garments_up
from cir.async_client import AsyncClient

_CLIENTS = 16
_LIMIT = 24


def main() -> None:
    """Start everything, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    with garments_up(600, http=True) as up:
        asyncio.run(measure(up.port, up.http_port, options.calls, options.seconds))


async def measure(search: int, http: int, calls: int, seconds: float) -> None:
    """Ask through both doors and print what each took."""
    async with (
        AsyncClient(f"127.0.0.1:{search}") as client,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{http}", timeout=30) as web,
    ):
        rng = np.random.default_rng(1)
        dimension = (await client.catalog(CATALOG)).published.dimension  # type: ignore[union-attr]

        async def over_grpc() -> None:
            query = rng.normal(size=dimension).astype(np.float32)
            await client.search(CATALOG, features=query, page_size=_LIMIT)

        async def over_http() -> None:
            query = [float(value) for value in rng.normal(size=dimension)]
            turn = {"reference": {"features": {"rows": [{"values": query}], "dimension": dimension}}}
            body = {"turns": [turn], "pageSize": _LIMIT}
            (await web.post(f"/v1/catalogs/{CATALOG}:search", json=body)).raise_for_status()

        doors: dict[str, Callable[[], Awaitable[None]]] = {"gRPC": over_grpc, "HTTP": over_http}
        taken: dict[str, list[float]] = {name: [] for name in doors}
        for _ in range(calls):
            for name, ask in doors.items():
                began = time.perf_counter()
                await ask()
                taken[name].append((time.perf_counter() - began) * 1000)
        for name, times in taken.items():
            last = statistics.quantiles(times, n=100)[98]
            print(f"{name}: p50 {statistics.median(times):.1f} ms, p99 {last:.1f} ms")
        more = statistics.median(taken["HTTP"]) - statistics.median(taken["gRPC"])
        print(f"HTTP over gRPC: {more:+.1f} ms (goal: at most 3)")
        rates: dict[str, list[float]] = {name: [] for name in doors}
        for _ in range(3):
            for name, ask in doors.items():
                rates[name].append(await rate(ask, seconds))
        for name, values in rates.items():
            print(f"{name}, {_CLIENTS} at a time: {statistics.median(values):.0f} queries/s")
        share = statistics.median(rates["HTTP"]) / statistics.median(rates["gRPC"])
        print(f"HTTP to gRPC: {share:.2f} (goal: 0.6)")


async def rate(ask: Callable[[], Awaitable[None]], seconds: float) -> float:
    """Return the queries a second of several clients at a time."""
    until, done = time.perf_counter() + seconds, 0

    async def client() -> None:
        nonlocal done
        while time.perf_counter() < until:
            await ask()
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(_CLIENTS)))
    return done / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
