"""What a run asks for features of pictures: the embedder over gRPC, or parts that were embedded before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cir.common.v1.model_pb2 import ModelInfo
from indexer.items import EmbeddedItem, LoadedItem, Reject


class ImageEmbedder(Protocol):
    """Embeds batches of pictures with one model. The limits are for the one that makes the batches."""

    model: ModelInfo
    #: Pictures in one call.
    batch_items: int
    #: Bytes of pictures in one call.
    batch_bytes: int
    #: Bytes of one picture.
    image_bytes: int

    async def embed(self, batch: Sequence[LoadedItem]) -> list[EmbeddedItem | Reject]:
        """Entry i of the answer is what became of item i. Raises `IndexingError`."""
