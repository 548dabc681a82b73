"""EmbedPrompts over gRPC: features, cuts and refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from cir import vectors
from cir.common.v1 import errors_pb2
from cir.embedder.v1 import embedder_pb2 as pb
from embedder_service.settings import EmbedderSettings
from tests.embedder_service.conftest import running
from tests.refused import refused

pytestmark = pytest.mark.service
WIDTH = 64
TEMPLATE = "a photo of {image} that {text}"


@pytest.fixture
async def stub() -> AsyncIterator[Any]:
    settings = EmbedderSettings(
        port=0, log_level="error", architecture="cir-small", pretrained="shipped", device="cpu",
        runtime="openvino", dtype="float32", max_batch_items=5, max_text_characters=300,
    )  # fmt: skip
    async with running(settings) as stub:
        yield stub


def words_of(count: int, width: int = WIDTH) -> Any:
    values = np.random.default_rng(count).normal(scale=0.05, size=(count, width)).astype(np.float32)
    return vectors.pack(values)


def request_of(texts: list[str], **fields: Any) -> pb.EmbedPromptsRequest:
    return pb.EmbedPromptsRequest(
        **({"template": TEMPLATE, "texts": texts, "word_embeddings": words_of(len(texts))} | fields)
    )


async def test_each_text_is_read_with_its_own_word(stub: Any) -> None:
    info = (await stub.GetEmbedderInfo(pb.GetEmbedderInfoRequest())).model
    assert info.token_width == WIDTH
    texts = ["is red", "x" * 301, "is red", "long " * 50]
    answer = await stub.EmbedPrompts(request_of(texts, expected_model_fingerprint=info.fingerprint))
    rows = vectors.unpack(answer.features, finite=False)
    assert answer.features.model_fingerprint == info.fingerprint
    assert [error.index for error in answer.errors] == [1]
    assert answer.errors[0].reason == errors_pb2.TEXT_TOO_LONG
    assert np.isnan(rows[1]).all()
    assert np.isfinite(rows[[0, 2, 3]]).all()
    assert not np.allclose(rows[0], rows[2])
    assert [(cut.index, cut.tokens, cut.read_tokens) for cut in answer.cuts] == [(3, 53, 48)]
    plain = await stub.EmbedTexts(pb.EmbedTextsRequest(texts=["is red"]))
    assert not np.allclose(vectors.unpack(plain.features)[0], rows[0])


CASES: list[tuple[dict[str, Any], str]] = [
    ({"template": "a photo of $"}, "FIELD_INVALID"),
    ({"texts": []}, "FIELD_REQUIRED"),
    ({"texts": ["a"] * 6, "word_embeddings": words_of(6)}, "TOO_MANY_ITEMS"),
    ({"word_embeddings": words_of(2)}, "FIELD_INVALID"),
    ({"word_embeddings": words_of(1, WIDTH + 1)}, "WRONG_DIMENSION"),
    ({"word_embeddings": vectors.pack(np.full((1, WIDTH), np.inf, np.float32))}, "NOT_FINITE"),
    ({"priority": 9}, "FIELD_INVALID"),
    ({"expected_model_fingerprint": "clip-other"}, "FINGERPRINT_MISMATCH"),
]


async def test_what_is_refused(stub: Any) -> None:
    for fields, reason in CASES:
        refusal = await refused(stub.EmbedPrompts(request_of(**({"texts": ["a"]} | fields))))
        assert refusal.reason == reason, fields
