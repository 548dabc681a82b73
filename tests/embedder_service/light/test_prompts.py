"""Word embeddings among the tokens of the shipped model: by OpenVINO and by torch, from one folder."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from cir.prompts import parse_template
from embedder_service.light.model import LightModel
from embedder_service.light.tokenizer import ClipTokenizer
from embedder_service.loading import load_served
from embedder_service.model.clip import ClipModel
from embedder_service.settings import EmbedderSettings

pytestmark = pytest.mark.torch

TEMPLATE = parse_template("a photo of {image} that {text}")
TEXTS = ["is red", "has $ and {image} in it", "long " * 60, ""]


@cache
def light() -> LightModel:
    model = load_served(_settings("openvino")).model
    assert isinstance(model, LightModel)
    return model


@cache
def by_torch() -> ClipModel:
    model = load_served(_settings("torch")).model
    assert isinstance(model, ClipModel)
    return model


def _settings(runtime: str) -> EmbedderSettings:
    return EmbedderSettings(
        architecture="cir-small", pretrained="shipped", runtime=runtime, device="cpu", dtype="float32"
    )


def test_both_runtimes_read_the_same_sentences_alike() -> None:
    words = np.random.default_rng(0).normal(scale=0.05, size=(len(TEXTS), light().token_width))
    one, cuts = light().tokenize_prompts(TEMPLATE, TEXTS, words.astype(np.float32))
    other, other_cuts = by_torch().tokenize_prompts(TEMPLATE, TEXTS, words.astype(np.float32))
    np.testing.assert_array_equal(one, other)
    assert cuts == other_cuts == {2: 63}
    np.testing.assert_allclose(light().encode_prompts(one), by_torch().encode_prompts(one), atol=1e-4)


def test_a_word_s_own_embedding_gives_the_features_of_the_text_itself() -> None:
    tokenizer = light().tokenizer
    assert isinstance(tokenizer, ClipTokenizer)
    (word,) = tokenizer.words("dress")
    own = by_torch().module.token_embedding.weight[word].detach().numpy()
    prompts, _ = light().tokenize_prompts(TEMPLATE, ["is red"], own[None])
    expected = light().encode_texts(["a photo of dress that is red"])
    np.testing.assert_allclose(light().encode_prompts(prompts), expected, atol=1e-4)
    np.testing.assert_allclose(by_torch().encode_prompts(prompts), expected, atol=1e-4)
