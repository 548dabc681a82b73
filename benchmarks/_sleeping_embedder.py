"""An embedder with a fixed capacity: one call at a time, each of which sleeps. Prints its address."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc.aio

from benchmarks._null_embedder import FINGERPRINT, NullEmbedder
from cir.embedder.v1 import embedder_pb2 as pb
from cir.embedder.v1 import embedder_pb2_grpc as rpc
from cir.vectors import pack


class SleepingEmbedder(NullEmbedder):
    """Texts take their time, and the device is one."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._device = asyncio.Lock()

    async def EmbedTexts(self, request: Any, context: Any) -> pb.EmbedTextsResponse:  # noqa: N802
        """A row for each text."""
        async with self._device:
            await asyncio.sleep(self._seconds)
        return pb.EmbedTextsResponse(features=pack(self._rows[: len(request.texts)], fingerprint=FINGERPRINT))


async def main(seconds: float) -> None:
    """Serve on a free port of this machine until the process is ended."""
    server = grpc.aio.server()
    rpc.add_EmbedderServiceServicer_to_server(SleepingEmbedder(seconds), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
