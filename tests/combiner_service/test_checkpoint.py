from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from combiner_service.checkpoint import inspect_checkpoint, read_checkpoint, write_checkpoint
from combiner_service.checkpoint_metadata import CheckpointMetadata
from combiner_service.errors import InvalidCheckpointError
from combiner_service.network import CombinerNetwork
from combiner_service.network_sizes import NetworkSizes
from tests.combiner_service.examples import SMALL, evaluate, features_of, save_published, weights_of

METADATA = CheckpointMetadata(
    model_fingerprint="abc123",
    training_data="FashionIQ train, three categories",
    protocol="gallery=original; captions='a and b'; reference kept",
    metrics={"recall_at_10": 0.354, "recall_at_50": 0.59},
    epoch=41,
    extra={"author": "someone"},
)


def write_own(path: Path, weights: dict[str, torch.Tensor]) -> None:
    write_checkpoint(path, weights, METADATA)


def write_bare(path: Path, weights: dict[str, torch.Tensor]) -> None:
    save_file(weights, path, metadata={"format": "pt"})


FORMATS = [("a.pt", save_published), ("a.pth", save_published), ("a.safetensors", write_own)]
FORMATS += [("a.safetensors", write_bare)]


@pytest.mark.parametrize(("name", "write"), FORMATS)
@given(
    st.builds(NetworkSizes, st.integers(1, 24), st.integers(1, 24), st.integers(1, 24)), st.integers(0, 99)
)
@settings(max_examples=15, deadline=None)
def test_a_network_comes_back_from_every_format(
    tmp_path_factory: pytest.TempPathFactory, name: str, write: object, sizes: NetworkSizes, seed: int
) -> None:
    path = tmp_path_factory.mktemp("checkpoint") / name
    weights = weights_of(sizes, seed)
    assert callable(write)
    write(path, weights)

    checkpoint = read_checkpoint(path)

    assert checkpoint.sizes == inspect_checkpoint(path).sizes == sizes
    assert checkpoint.metadata == inspect_checkpoint(path).metadata
    image, text = features_of(5, sizes.feature_dim, seed), features_of(5, sizes.feature_dim, seed + 1)
    network = CombinerNetwork.from_weights(checkpoint.weights)
    query, scalar = network(torch.from_numpy(image), torch.from_numpy(text))
    expected_query, expected_scalar = evaluate(weights, image, text)
    np.testing.assert_allclose(query.numpy(), expected_query, atol=1e-5)
    np.testing.assert_allclose(scalar.numpy(), expected_scalar, atol=1e-5)


def test_own_format_keeps_its_metadata(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a.safetensors", weights_of(), METADATA)
    assert read_checkpoint(tmp_path / "a.safetensors").metadata == METADATA


def test_published_format_keeps_its_epoch(tmp_path: Path) -> None:
    assert read_checkpoint(save_published(tmp_path / "a.pt", weights_of(), epoch=12)).metadata.epoch == 12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("name", "write"), FORMATS[1:])
def test_other_floating_point_types_become_float32(
    tmp_path: Path, name: str, write: object, dtype: torch.dtype
) -> None:
    weights = {key: tensor.to(dtype) for key, tensor in weights_of().items()}
    assert callable(write)
    write(tmp_path / name, weights)
    for key, tensor in read_checkpoint(tmp_path / name).weights.items():
        torch.testing.assert_close(tensor, weights[key].float())


def test_a_crafted_safetensors_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(InvalidCheckpointError, match="not a whole safetensors file"):
        inspect_checkpoint(path)


def test_another_ending_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(InvalidCheckpointError, match="ends in none of"):
        read_checkpoint(tmp_path / "a.bin")


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    for name in ("a.pt", "a.safetensors"):
        with pytest.raises(OSError, match="No such file"):
            read_checkpoint(tmp_path / name)


@pytest.mark.parametrize(("name", "write"), FORMATS[1:])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(
    tmp_path: Path, name: str, write: object, value: float
) -> None:
    weights = weights_of()
    weights["combiner_layer.weight"][3, 2] = value
    assert callable(write)
    write(tmp_path / name, weights)
    with pytest.raises(InvalidCheckpointError, match=r"combiner_layer\.weight has NaN or infinity"):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize(("name", "write"), [("a.pt", save_published), ("a.safetensors", write_bare)])
def test_tensors_that_do_not_make_a_network_are_refused_before_they_are_read(
    tmp_path: Path, name: str, write: object
) -> None:
    assert callable(write)
    wrong_shape = weights_of() | {"dynamic_scalar.3.bias": torch.zeros(2)}
    missing = weights_of()
    del missing["output_layer.bias"]
    integers = weights_of() | {"output_layer.bias": torch.zeros(SMALL.feature_dim, dtype=torch.int32)}
    for weights, message in (
        (wrong_shape, r"dynamic_scalar\.3\.bias has the shape \(2,\), expected \(1,\)"),
        (missing, r"missing tensors: output_layer\.bias"),
        (weights_of() | {"logit_scale": torch.zeros(1)}, "unexpected tensors: logit_scale"),
        (integers, r"output_layer\.bias .*floating-point numbers"),
    ):
        write(tmp_path / name, weights)
        for read in (inspect_checkpoint, read_checkpoint):
            with pytest.raises(InvalidCheckpointError, match=message):
                read(tmp_path / name)


@pytest.mark.parametrize(("name", "write"), FORMATS[1:])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, name: str, write: object) -> None:
    assert callable(write)
    write(tmp_path / name, weights_of())
    whole = (tmp_path / name).read_bytes()
    for length in [*range(0, len(whole), max(1, len(whole) // 40)), len(whole) - 1]:
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(InvalidCheckpointError):
            read_checkpoint(tmp_path / name)


def test_writing_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, weights_of(), METADATA)
    before = path.read_bytes()
    broken = weights_of()
    del broken["output_layer.bias"]
    with pytest.raises(InvalidCheckpointError, match="output_layer"):
        write_checkpoint(path, broken, METADATA)
    with pytest.raises(ValueError, match="names of the format itself: epoch"):
        write_checkpoint(path, weights_of(), CheckpointMetadata(extra={"epoch": "1"}))
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        write_checkpoint(tmp_path / "a.pt", weights_of(), METADATA)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(tmp_path / "a.safetensors", weights_of(), METADATA)
    assert list(tmp_path.iterdir()) == []
