"""Embedding and combining through the clients, over real gRPC on loopback."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message

import cir
from cir.combiner.v1 import combiner_pb2
from cir.common.v1 import errors_pb2, model_pb2
from cir.embedder.v1 import embedder_pb2
from cir.vectors import pack, unpack
from tests.cir.fake_search import FakeSearch

pytestmark = pytest.mark.service

NAN = float("nan")
ROWS = np.array([[1, 2], [NAN, NAN]], np.float32)
ERROR = errors_pb2.ItemError(index=1, code=3, reason=errors_pb2.IMAGE_UNREADABLE, message="not an image")


def combined(request: combiner_pb2.CombineRequest, _context: object) -> Message:
    """Queries of one length, or words for an inversion."""
    if request.combiner == "inversion/x":
        words = pack(np.ones((1, 3), np.float32))
        return combiner_pb2.CombineResponse(
            combiner="inversion/x", word_embeddings=words, template="{image} {text}"
        )
    queries = pack(unpack(request.image_features), fingerprint="clip-1")
    return combiner_pb2.CombineResponse(
        query_vectors=queries, combiner="slerp", text_weights=[0.5], lambdas=[0.25]
    )


def pages_of_combiners(request: combiner_pb2.ListCombinersRequest, _context: object) -> Message:
    name, token = ("sum", "") if request.page_token else ("slerp", "more")
    return combiner_pb2.ListCombinersResponse(
        combiners=[combiner_pb2.Combiner(name=name, takes_text_weight=True, metadata={"epoch": "3"})],
        next_page_token=token,
    )


INFO = embedder_pb2.GetEmbedderInfoResponse(
    model=model_pb2.ModelInfo(fingerprint="clip-1", dimension=2),
    limits=embedder_pb2.EmbedderLimits(max_batch_items=32),
    version="1",
    joint_encoders=[embedder_pb2.JointEncoder(name="joint/x", description="one")],
)
INFO.limits.max_wait.FromMilliseconds(2500)
ANSWERS: dict[str, Any] = {
    "GetEmbedderInfo": INFO,
    "EmbedImages": embedder_pb2.EmbedImagesResponse(
        features=pack(ROWS, fingerprint="clip-1"), errors=[ERROR]
    ),
    "EmbedTexts": embedder_pb2.EmbedTextsResponse(
        features=pack(ROWS[:1], fingerprint="clip-1"),
        cuts=[embedder_pb2.TextCut(index=0, tokens=90, read_tokens=77)],
    ),
    "EmbedPrompts": embedder_pb2.EmbedPromptsResponse(features=pack(ROWS[:1], fingerprint="clip-1")),
    "EmbedQueries": embedder_pb2.EmbedQueriesResponse(features=pack(ROWS[:1], fingerprint="clip-1")),
    "ListCombiners": pages_of_combiners,
    "Combine": combined,
}
CALLS: list[tuple[str, Callable[[Any], Any]]] = [
    ("embedder_info", lambda client: client.embedder_info()),
    ("embed_images", lambda client: client.embed_images([b"a", np.zeros((2, 2), np.uint8)])),
    ("embed_texts", lambda client: client.embed_texts("red", model_fingerprint="clip-1", priority="bulk")),
    ("embed_prompts", lambda client: client.embed_prompts("{image} {text}", ["red"], [[1.0, 2.0]])),
    ("embed_queries", lambda client: client.embed_queries("joint/x", [b"a"], ["red"])),
    ("combiners", lambda client: client.combiners()),
    ("combine", lambda client: client.combine([[1.0, 2.0]], [[2.0, 1.0]], text_weight=0.0)),
]


@pytest.fixture(autouse=True)
def answers(search_service: FakeSearch) -> None:
    search_service.answers.update(ANSWERS)


@pytest.fixture
def client(search_service: FakeSearch) -> Iterator[cir.Client]:
    at = search_service.address
    with cir.Client("127.0.0.1:1", embedder=at, combiner=at, timeout=10) as client:
        yield client


@pytest.mark.parametrize(("name", "call"), CALLS, ids=[name for name, _ in CALLS])
async def test_both_clients_send_the_same_and_read_the_same(
    client: cir.Client, search_service: FakeSearch, name: str, call: Callable[[Any], Any]
) -> None:
    blocking = call(client)
    at = search_service.address
    async with cir.AsyncClient("127.0.0.1:1", embedder=at, combiner=at, timeout=10) as async_client:
        awaited = await call(async_client)
    half = len(search_service.requests) // 2
    assert search_service.requests[:half] == search_service.requests[half:]
    assert repr(blocking) == repr(awaited)


def test_an_input_that_fails_has_no_features(client: cir.Client) -> None:
    embedded = client.embed_images([io.BytesIO(b"a"), b"b"])
    assert len(embedded) == 2
    assert embedded[0].values.tolist() == [1, 2]
    assert embedded[0].model_fingerprint == "clip-1"
    for place in (1, -1):
        with pytest.raises(cir.InvalidArgument, match="input 1: not an image") as raised:
            embedded[place]
        assert raised.value.reason == "IMAGE_UNREADABLE"
    with pytest.raises(IndexError):
        embedded[2]
    with pytest.raises(cir.InvalidArgument, match="image_features 1 failed: not an image"):
        client.combine(embedded, embedded)


def test_what_was_embedded_is_combined_and_searched(client: cir.Client, search_service: FakeSearch) -> None:
    texts = client.embed_texts(["red"])
    assert texts.cuts == (cir.TextCut(0, 90, 77),)
    combined = client.combine(texts, texts[0])
    assert isinstance(search_service.requests[-1], combiner_pb2.CombineRequest)
    assert search_service.requests[-1].image_features.model_fingerprint == "clip-1"
    assert not search_service.requests[-1].HasField("text_weight")
    assert (combined.combiner, combined.text_weights, combined.lambdas) == ("slerp", (0.5,), (0.25,))
    turn = cir.Turn(features=combined[0]).message()
    assert turn.reference.features.model_fingerprint == "clip-1"


def test_words_are_for_prompts(client: cir.Client) -> None:
    words = client.combine([[1.0, 2.0]], [[2.0, 1.0]], combiner="inversion/x")
    assert words.queries is None
    assert words.word_embeddings is not None
    client.embed_prompts(words.template, ["red"], words.word_embeddings)
    with pytest.raises(cir.InvalidArgument, match="embed_prompts"):
        words[0]


def test_the_model_and_limits_are_read(client: cir.Client) -> None:
    info = client.embedder_info()
    assert (info.model.fingerprint, info.limits["max_batch_items"], info.limits["max_wait"]) == (
        "clip-1",
        32,
        2.5,
    )
    assert info.joint_encoders == {"joint/x": "one"}
    assert [combiner.name for combiner in client.combiners()] == ["slerp", "sum"]


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda client: client.embed_images(b"a"), "give a list"),
        (lambda client: client.embed_images([3]), "a int is no image"),
        (lambda client: client.embed_texts([3]), "texts takes texts"),
        (lambda client: client.embed_texts(["a"], priority="soon"), "interactive or bulk"),
        (lambda client: client.combine([[[1.0]]], [[1.0]]), r"image_features have the shape \(1, 1, 1\)"),
        (lambda client: client.combine([[1.0]], []), "text_features have the shape"),
    ],
)
def test_what_cannot_be_sent_is_refused(client: cir.Client, call: Callable[[Any], Any], word: str) -> None:
    with pytest.raises(cir.InvalidArgument, match=word):
        call(client)


async def test_a_service_without_an_address_is_named() -> None:
    with (
        cir.Client("127.0.0.1:1") as client,
        pytest.raises(cir.FailedPrecondition, match='embedder="host:port"'),
    ):
        client.embed_texts(["a"])
    async with cir.AsyncClient("127.0.0.1:1") as async_client:
        with pytest.raises(cir.FailedPrecondition, match="no address of the combiner"):
            await async_client.combiners()
    with (
        cir.Client("127.0.0.1:1", embedder="127.0.0.1:2") as client,
        pytest.raises(cir.Unavailable, match=r"127\.0\.0\.1:2"),
    ):
        client.embed_texts(["a"], timeout=2)
    with pytest.raises(cir.InvalidArgument):
        cir.Client("127.0.0.1:1", embedder="http://host")
