"""Training of phi from captions and from images: what it learns, resuming, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from combiner_service.checkpoint import read_checkpoint
from combiner_service.network_spec import PhiSizes
from combiner_training.captions import content_runs
from combiner_training.inversion import InversionData, caption_data, image_data, train_inversion
from combiner_training.inversion_options import InversionOptions
from combiner_training.options import TrainingError

pytestmark = pytest.mark.torch

COLOURS = ("red", "green", "blue", "black", "white", "brown")
KINDS = ("dress", "coat", "shirt", "skirt", "shoe", "hat")
CAPTIONS = [f"a {colour} {kind}" for colour in COLOURS for kind in KINDS]
OPTIONS = InversionOptions(
    steps=40, batch_size=16, learning_rate=1e-2, hidden_dim=32, dropout=0.0, validate_every=10
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """For matrices this small more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Silent:
    """Progress that says nothing."""

    def start(self, what: str, total: int) -> None:
        """Begin."""

    def advance(self, done: int, note: str = "") -> None:
        """Go on."""

    def stop(self) -> None:
        """End."""


class BagOfWords:
    """A text tower whose feature is a projection of the mean of its word embeddings."""

    fingerprint, dimension, token_width, context = "clip-bag", 12, 8, 10
    begin, end = 1, 2

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self._embedding = torch.randn(64, self.token_width, generator=generator)
        self._projection = torch.randn(self.token_width, self.dimension, generator=generator)
        self._ids: dict[str, int] = {}

    def words(self, text: str) -> list[int]:
        """Return a number for each word."""
        return [self._ids.setdefault(word, 3 + len(self._ids)) for word in text.split()]

    def encode(self, tokens: Tensor, words: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Return features; padding is 0 and counts for nothing, unless a word stands there."""
        counted = tokens > 2
        embedded = self._embedding[tokens]
        if words is not None and mask is not None:
            embedded = torch.where(mask[:, :, None], words[:, None], embedded)
            counted = counted | mask
        total = (embedded * counted[:, :, None]).sum(1) / counted.sum(1, keepdim=True).clamp(min=1)
        return torch.tanh(total @ self._projection)


def ready() -> tuple[InversionData, BagOfWords]:
    tower = BagOfWords()
    return caption_data([*CAPTIONS, CAPTIONS[0], " "], tower, "captions"), tower


def weights(folder: Path, name: str = "last") -> dict[str, Any]:
    return dict(read_checkpoint(folder / f"{name}.safetensors").weights)


@pytest.mark.slow
def test_captions_teach_it_to_name_what_it_has_not_seen(tmp_path: Path) -> None:
    data, tower = ready()
    assert data.captions == tuple(CAPTIONS)
    options = replace(OPTIONS, steps=200, validate_every=100)
    trained = train_inversion(data, tower, options, tmp_path, progress=Silent())
    assert trained.held_out == 4
    assert trained.best >= 0.75
    best = read_checkpoint(tmp_path / "best.safetensors")
    assert best.sizes == PhiSizes(12, 32, 8)
    assert best.metadata.model_fingerprint == "clip-bag"
    assert best.metadata.extra["template"] == "{image} {text}"
    assert "no triplets" in best.metadata.training_data


@pytest.mark.slow
def test_images_alone_teach_it_too(tmp_path: Path) -> None:
    captions, tower = ready()
    noise = np.random.default_rng(0).normal(scale=0.02, size=captions.features.shape)
    spoilt = np.full((1, tower.dimension), np.nan, np.float32)
    features = np.concatenate([captions.features + noise.astype(np.float32), spoilt])
    data = image_data(features, tower.fingerprint, "images")
    assert len(data.features) == len(CAPTIONS)
    options = replace(OPTIONS, steps=200, validate_every=100)
    assert train_inversion(data, tower, options, tmp_path, progress=Silent()).best >= 0.75


def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path: Path) -> None:
    data, tower = ready()

    class Killed(Silent):
        def advance(self, done: int, note: str = "") -> None:
            if done == 2:
                raise KeyboardInterrupt

    train_inversion(data, tower, OPTIONS, tmp_path / "whole", progress=Silent())
    with pytest.raises(KeyboardInterrupt):
        train_inversion(data, tower, OPTIONS, tmp_path / "killed", progress=Killed())
    with pytest.raises(TrainingError, match="resume"):
        train_inversion(data, tower, OPTIONS, tmp_path / "killed", progress=Silent())
    other = replace(OPTIONS, noise=0.5)
    with pytest.raises(TrainingError, match="noise was"):
        train_inversion(data, tower, other, tmp_path / "killed", resume=True, progress=Silent())
    train_inversion(data, tower, OPTIONS, tmp_path / "killed", resume=True, progress=Silent())
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    for name in whole:
        np.testing.assert_array_equal(whole[name], killed[name])


def test_what_cannot_be_trained_is_said(tmp_path: Path) -> None:
    data, tower = ready()
    with pytest.raises(TrainingError, match="at least 20"):
        caption_data(CAPTIONS[:19], tower, "few")
    with pytest.raises(TrainingError, match="clip-other"):
        train_inversion(
            replace(data, model_fingerprint="clip-other"), tower, OPTIONS, tmp_path, progress=Silent()
        )
    with pytest.raises(TrainingError, match="template"):
        train_inversion(data, tower, replace(OPTIONS, template="$"), tmp_path, progress=Silent())
    assert not list(tmp_path.iterdir())


@given(st.text(alphabet="ab the,.of-", max_size=60))
def test_runs_put_together_are_the_caption(caption: str) -> None:
    runs = content_runs(caption)
    assert " ".join(text for text, _ in runs) == " ".join(caption.split())
    assert all(one[1] is not other[1] for one, other in pairwise(runs))


def test_content_is_what_a_picture_shows() -> None:
    assert content_runs("A long red dress with a round neck.") == [
        ("A", False),
        ("long red dress", True),
        ("with a", False),
        ("round neck.", True),
    ]
