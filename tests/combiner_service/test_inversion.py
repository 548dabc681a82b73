"""Inversions: the published layout, both runtimes, the contract of calls, and what is refused."""

from __future__ import annotations

import re
from math import erf
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from combiner_service.checkpoint import CheckpointMetadata, inspect_checkpoint, write_checkpoint
from combiner_service.checkpoint_directory import CheckpointDirectory
from combiner_service.combiner import Needs, Pairs
from combiner_service.errors import InvalidCheckpointError, TextWeightNotTakenError, WrongDimensionError
from combiner_service.inversion import PUBLISHED_TEMPLATE, Inversion, InversionTraits, Inverted
from combiner_service.network_spec import PhiSizes, any_sizes
from combiner_service.registry import Registry
from tests.combiner_service.examples import features_of, weights_of

SIZES = PhiSizes(feature_dim=8, hidden_dim=16, token_width=6)


def phi_weights(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    return {
        name: (generator.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
        for name, shape in SIZES.shapes().items()
    }


def write(folder: Path, name: str, **extra: str) -> None:
    metadata = CheckpointMetadata(model_fingerprint="clip-a", extra=extra)
    write_checkpoint(folder / f"{name}.safetensors", phi_weights(), metadata)


def inversion_of(folder: Path, name: str) -> Inversion:
    found = Registry(CheckpointDirectory(folder, {})).get(f"inversion/{name}")
    assert isinstance(found, Inversion)
    return found


def by_formulae(features: NDArray[np.float32]) -> NDArray[np.float64]:
    weights = {name: array.astype(np.float64) for name, array in phi_weights().items()}
    rows = features.astype(np.float64)
    for layer in (0, 3, 6):
        rows = rows @ weights[f"layers.{layer}.weight"].T + weights[f"layers.{layer}.bias"]
        if layer < 6:
            rows = 0.5 * rows * (1 + np.vectorize(erf)(rows / np.sqrt(2)))
    return rows


def test_a_file_is_listed_by_what_it_holds(tmp_path: Path) -> None:
    write(tmp_path, "own", template="{image} {text}")
    write_checkpoint(tmp_path / "network.safetensors", weights_of(), CheckpointMetadata())
    infos = {
        info.name: info for info in Registry(CheckpointDirectory(tmp_path, {})).infos() if "/" in info.name
    }
    assert list(infos) == ["combiner/network", "inversion/own"]
    own = infos["inversion/own"]
    assert (own.needs, own.token_width, own.dimension) == (Needs.TEXT_TOWER, 6, 8)
    assert own.model_fingerprint == "clip-a"
    assert not own.takes_text_weight
    assert not own.problem
    assert infos["combiner/network"].needs is Needs.FEATURES


def test_words_are_those_of_the_formulae(tmp_path: Path) -> None:
    write(tmp_path, "own")
    features = features_of(5)
    inversion = inversion_of(tmp_path, "own")
    np.testing.assert_allclose(inversion.invert(features), by_formulae(features), atol=1e-5)
    assert inversion.template == PUBLISHED_TEMPLATE


def test_features_are_brought_to_the_length_of_the_training(tmp_path: Path) -> None:
    traits = InversionTraits("{image} {text}", 3.0)
    write(tmp_path, "own", **traits.texts())
    features = features_of(4)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    inversion = inversion_of(tmp_path, "own")
    np.testing.assert_allclose(inversion.invert(7 * features), by_formulae(3 * unit), atol=1e-5)
    assert inversion.template == "{image} {text}"


@pytest.mark.torch
def test_the_published_dictionary_loads(tmp_path: Path) -> None:
    import torch

    from combiner_service.torch_network import Phi, TorchPhi

    state = {name: torch.tensor(array) for name, array in phi_weights().items()}
    torch.save({"epoch": 3, "Phi": state}, tmp_path / "phi_best.pt")
    features = features_of(5)
    inversion = inversion_of(tmp_path, "phi_best")
    np.testing.assert_allclose(inversion.invert(features), by_formulae(features), atol=1e-5)
    assert inversion.template == PUBLISHED_TEMPLATE
    assert inversion.info.metadata["epoch"] == "3"
    by_torch = TorchPhi(Phi.from_weights(phi_weights()))
    np.testing.assert_allclose(by_torch(features), by_formulae(features), atol=1e-5)


def test_calls_are_inverted_together_and_refused_alone(tmp_path: Path) -> None:
    write(tmp_path, "own")
    inversion = inversion_of(tmp_path, "own")
    first, other = features_of(2), features_of(3, seed=1)
    wide = features_of(1, 9)
    answers = inversion.combine_all(
        [Pairs(first, first), Pairs(wide, wide), Pairs(first, first, 0.5), Pairs(other, other)]
    )
    assert isinstance(answers[1], WrongDimensionError)
    assert isinstance(answers[2], TextWeightNotTakenError)
    for answer, features in ((answers[0], first), (answers[3], other)):
        assert isinstance(answer, Inverted)
        np.testing.assert_allclose(answer.words, by_formulae(features), atol=1e-5)


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"template": "a photo of $"}, r"\{image\}"),
        ({"feature_length": "long"}, "no number"),
        ({"feature_length": "-1"}, "0 or more"),
        ({"feature_length": "nan"}, "0 or more"),
    ],
)
def test_a_header_that_cannot_be_used_is_the_files_problem(
    tmp_path: Path, extra: dict[str, str], expected: str
) -> None:
    write(tmp_path, "own", **extra)
    (info,) = [info for info in Registry(CheckpointDirectory(tmp_path, {})).infos() if "own" in info.name]
    assert re.search(expected, info.problem)


def test_tensors_that_do_not_fit_are_refused() -> None:
    shapes = {name: array.shape for name, array in phi_weights().items()}
    with pytest.raises(InvalidCheckpointError, match=r"layers.3.weight has the shape"):
        any_sizes({**shapes, "layers.3.weight": (16, 15)})
    with pytest.raises(InvalidCheckpointError, match=r"missing tensors: layers.6.bias"):
        any_sizes({name: shape for name, shape in shapes.items() if name != "layers.6.bias"})


def test_a_file_that_breaks_keeps_its_name(tmp_path: Path) -> None:
    write(tmp_path, "own")
    directory = CheckpointDirectory(tmp_path, {})
    assert list(directory.scan()) == ["inversion/own"]
    (tmp_path / "own.safetensors").write_bytes(b"damaged")
    entry = directory.scan()["inversion/own"]
    assert entry.info.problem


def test_the_header_says_what_the_network_is(tmp_path: Path) -> None:
    write(tmp_path, "own")
    summary = inspect_checkpoint(tmp_path / "own.safetensors")
    assert summary.sizes == SIZES
