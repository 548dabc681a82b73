"""An embedder that computes nothing: every picture gets the same 512 features at once. Prints its address."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import numpy as np

from cir.channel import MAX_MESSAGE_BYTES
from cir.common.v1.model_pb2 import ModelInfo
from cir.embedder.v1 import embedder_pb2 as pb
from cir.embedder.v1 import embedder_pb2_grpc as rpc
from cir.vectors import pack

DIMENSION = 512
FINGERPRINT = "null"


class NullEmbedder(rpc.EmbedderServiceServicer):
    """Features that differ a little from row to row, so that an index of them is one."""

    def __init__(self) -> None:
        self._rows = np.random.default_rng(0).normal(size=(256, DIMENSION)).astype(np.float32)

    async def GetEmbedderInfo(  # noqa: N802  # the contract's name
        self, request: Any, context: Any
    ) -> pb.GetEmbedderInfoResponse:
        """What the indexer asks first."""
        model = ModelInfo(fingerprint=FINGERPRINT, architecture="null", dimension=DIMENSION, dtype="none")
        limits = pb.EmbedderLimits(
            max_image_bytes=20_000_000, max_batch_items=256, max_message_bytes=MAX_MESSAGE_BYTES
        )
        return pb.GetEmbedderInfoResponse(model=model, limits=limits)

    async def EmbedImages(  # noqa: N802  # the contract's name
        self, request: Any, context: Any
    ) -> pb.EmbedImagesResponse:
        """A row for each picture, whatever it is."""
        return pb.EmbedImagesResponse(
            features=pack(self._rows[: len(request.images)], fingerprint=FINGERPRINT)
        )

    async def EmbedTexts(self, request: Any, context: Any) -> pb.EmbedTextsResponse:  # noqa: N802
        """The indexer embeds no texts."""
        raise NotImplementedError

    async def EmbedPrompts(self, request: Any, context: Any) -> pb.EmbedPromptsResponse:  # noqa: N802
        """The indexer embeds no sentences."""
        raise NotImplementedError

    async def EmbedQueries(self, request: Any, context: Any) -> pb.EmbedQueriesResponse:  # noqa: N802
        """The indexer embeds no queries."""
        raise NotImplementedError

    def EmbedStream(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        """The indexer opens no streams."""
        raise NotImplementedError


async def main() -> None:
    """Serve on a free port of this machine until the process is ended."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)])
    rpc.add_EmbedderServiceServicer_to_server(NullEmbedder(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
