"""Known good requests of each service, and what of their answers must not change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cir.combiner.v1 import combiner_pb2
from cir.embedder.v1 import embedder_pb2
from cir.search.v1 import search_pb2
from cir.vectors import pack, unpack
from tests.embedder_service.pictures import jpeg
from tests.robustness.seeds import COMBINER, DIMENSION, EMBEDDER, SEARCH, UNTOUCHED

_ROWS = np.random.default_rng(2).normal(size=(2, DIMENSION)).astype(np.float32)


def good_requests(service: str) -> list[tuple[str, bytes]]:
    """(method, bytes) of requests that the service must go on answering."""
    if service == "embedder":
        # Tensors are embedded each time; pictures and texts may come from the cache.
        pictures = [
            embedder_pb2.ImageInput(content=jpeg(seed=99)),
            embedder_pb2.ImageInput(tensor=b"\x40" * 3072),
        ]
        images = embedder_pb2.EmbedImagesRequest(images=pictures)
        texts = embedder_pb2.EmbedTextsRequest(texts=["a good text"])
        return [
            (EMBEDDER + "EmbedImages", images.SerializeToString()),
            (EMBEDDER + "EmbedTexts", texts.SerializeToString()),
        ]
    if service == "combiner":
        request = combiner_pb2.CombineRequest(image_features=pack(_ROWS), text_features=pack(_ROWS[::-1]))
        return [(COMBINER + "Combine", request.SerializeToString())]
    turns = [
        search_pb2.Turn(reference=search_pb2.Reference(item_id="item-3"), text="in red"),
        search_pb2.Turn(text="and longer", disliked_item_ids=["item-5"]),
    ]
    search = search_pb2.SearchRequest(catalog=UNTOUCHED, turns=turns, limit=5)
    return [(SEARCH + "Search", search.SerializeToString())]


@dataclass(frozen=True, slots=True)
class Answer:
    """The part of an answer that depends on the request alone: names, and numbers."""

    names: tuple[str, ...]
    numbers: NDArray[np.float32]

    def is_close_to(self, other: Answer) -> bool:
        """Whether both say the same, up to the rounding that other batches bring."""
        return self.names == other.names and np.allclose(self.numbers, other.numbers, rtol=1e-3, atol=1e-4)


def read_answer(method: str, content: bytes) -> Answer:
    """What counts in the answer to a good request."""
    if method == SEARCH + "Search":
        found = search_pb2.SearchResponse.FromString(content).results
        return Answer(tuple(hit.item.id for hit in found), np.array([hit.score for hit in found], np.float32))
    if method == COMBINER + "Combine":
        return Answer((), unpack(combiner_pb2.CombineResponse.FromString(content).query_vectors))
    if method == EMBEDDER + "EmbedTexts":
        return Answer((), unpack(embedder_pb2.EmbedTextsResponse.FromString(content).features))
    return Answer((), unpack(embedder_pb2.EmbedImagesResponse.FromString(content).features))
