"""The load of the overload benchmark, as a process of its own: it shares no interpreter with the service.

    python -m benchmarks._overload_load ADDRESS closed|open SECONDS CLIENTS_OR_RATE OUTSTANDING

Prints one JSON object: what was answered, and when.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any

import grpc
import grpc.aio
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from benchmarks.embedder_service import read_photos
from cir.embedder.v1 import embedder_pb2 as pb

METHOD = "/cir.embedder.v1.EmbedderService/EmbedImages"
TIMEOUT = 20.0


class Load:
    """Sends pictures and keeps count."""

    def __init__(self, address: str) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        # A few connections, as several clients would have.
        self._channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(4)]
        self._calls: list[Any] = [channel.unary_unary(METHOD) for channel in self._channels]
        self._requests = [
            pb.EmbedImagesRequest(images=[pb.ImageInput(content=photo)]).SerializeToString()
            for photo in read_photos(None)
        ]
        self.codes: Counter[str] = Counter()
        self.without_retry_info = 0
        self.refusal_ms: list[float] = []
        self.answered_at: list[float] = []
        self.not_sent = 0
        self._number = 0

    async def one(self) -> None:
        """One call, counted."""
        self._number += 1
        call = self._calls[self._number % len(self._calls)]
        request = self._requests[self._number % len(self._requests)]
        started = time.monotonic()
        try:
            await call(request, timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            self.codes[error.code().name] += 1
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                self.refusal_ms.append((time.monotonic() - started) * 1000)
                self.without_retry_info += not _has_retry_info(error)
        else:
            self.codes["OK"] += 1
            self.answered_at.append(time.monotonic())

    async def closed(self, seconds: float, clients: int) -> None:
        """Each client sends its next call when it has the answer to the last."""
        ends = time.monotonic() + seconds

        async def client() -> None:
            while time.monotonic() < ends:
                await self.one()

        await asyncio.gather(*(client() for _ in range(clients)))

    async def open(self, seconds: float, rate: float, outstanding: int) -> None:
        """`rate` calls a second whatever the answers; calls beyond `outstanding` are counted, not sent."""
        tasks: set[asyncio.Task[None]] = set()
        started = time.monotonic()
        due = 0
        while (now := time.monotonic()) < started + seconds:
            while due < (now - started) * rate:
                due += 1
                if len(tasks) >= outstanding:
                    self.not_sent += 1
                    continue
                task = asyncio.create_task(self.one())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(max(0.005, started + due / rate - time.monotonic()))
        await asyncio.gather(*tasks)

    async def close(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            await channel.close()


def _has_retry_info(error: grpc.aio.AioRpcError) -> bool:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # has what a call has
    return status is not None and any(
        detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details
    )


async def _main(address: str, mode: str, seconds: float, amount: float, outstanding: int) -> None:
    load = Load(address)
    started = time.monotonic()
    if mode == "closed":
        await load.closed(seconds, int(amount))
    else:
        await load.open(seconds, amount, outstanding)
    await load.close()
    report = {
        "started": started,
        "seconds": seconds,
        "codes": dict(load.codes),
        "not_sent": load.not_sent,
        "without_retry_info": load.without_retry_info,
        "refusal_ms": load.refusal_ms,
        "answered_at": load.answered_at,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    host, way, duration, number, most = sys.argv[1:]
    asyncio.run(_main(host, way, float(duration), float(number), int(most)))
