"""A query over HTTP beside the same query over gRPC.

    python -m benchmarks.http_gateway [--calls 200] [--seconds 5]

Queries by features that nobody has asked before, over drawn garments: one at a time, by turns, then 16
clients over each door for some seconds, by turns. No model runs, so that what differs is the door.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._garments_up import CATALOG, garments_up
from benchmarks.imports import cpu_seconds
from cir.async_client import AsyncClient

_CLIENTS = 16
_LIMIT = 24
_PROCESSES = ("client", "http_gateway", "search_service")


def main() -> None:
    """Start everything, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    with garments_up(600, http=True) as up:
        asyncio.run(measure(up.port, up.http_port, options.calls, options.seconds))


class Connections:
    """Connections to the gateway, each used by one request at a time.

    Bare ones: httpx takes more of a core for a request than the gateway does.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, path: str, body: object) -> dict[str, Any]:
        """Return the JSON that answers a request."""
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
        place = await self._take()
        reader, writer = place
        writer.write(head.encode() + str(len(content)).encode() + b"\r\n\r\n" + content)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert answer.startswith(b"http/1.1 200"), answer
        length = int(answer.partition(b"content-length:")[2].partition(b"\r\n")[0])
        read: dict[str, Any] = json.loads(await reader.readexactly(length))
        self._idle.append(place)
        return read

    async def _take(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection that the server has not closed while it was idle, else a new one."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port)


async def measure(search: int, http: int, calls: int, seconds: float) -> None:
    """Ask through both doors and print what each took."""
    web = Connections(http)
    async with AsyncClient(f"127.0.0.1:{search}") as client:
        rng = np.random.default_rng(1)
        dimension = (await client.catalog(CATALOG)).published.dimension  # type: ignore[union-attr]

        async def over_grpc() -> None:
            query = rng.normal(size=dimension).astype(np.float32)
            await client.search(CATALOG, features=query, page_size=_LIMIT)

        async def over_http() -> None:
            query = [float(value) for value in rng.normal(size=dimension)]
            turn = {"reference": {"features": {"rows": [{"values": query}], "dimension": dimension}}}
            body = {"turns": [turn], "pageSize": _LIMIT}
            assert len((await web.post(f"/v1/catalogs/{CATALOG}:search", body))["results"]) == _LIMIT

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
        spent = {name: dict.fromkeys(_PROCESSES, 0.0) for name in doors}
        asked = dict.fromkeys(doors, 0.0)
        for _ in range(3):
            for name, ask in doors.items():
                before = _cpu_seconds()
                rates[name].append(await rate(ask, seconds))
                asked[name] += rates[name][-1] * seconds
                for process, after in _cpu_seconds().items():
                    spent[name][process] += after - before[process]
        for name, values in rates.items():
            shares = ", ".join(
                f"{process} {used / asked[name] * 1000:.1f}" for process, used in spent[name].items()
            )
            print(
                f"{name}, {_CLIENTS} at a time: {statistics.median(values):.0f} queries/s; "
                f"ms of CPU a query: {shares}"
            )
        share = statistics.median(rates["HTTP"]) / statistics.median(rates["gRPC"])
        print(f"HTTP to gRPC: {share:.2f} (goal: 0.6)")


def _cpu_seconds() -> dict[str, float]:
    """Return the CPU time so far of this process, the client, and of two that it started. Linux only."""
    pids = Path("/proc/self/task").glob("*/children")
    lines = {
        pid: Path(f"/proc/{pid}/cmdline").read_text() for path in pids for pid in path.read_text().split()
    }
    found = {name: next(pid for pid in lines if name in lines[pid]) for name in _PROCESSES[1:]}
    return {_PROCESSES[0]: time.process_time()} | {
        name: cpu_seconds(int(pid)) - cpu_seconds() for name, pid in found.items()
    }


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
