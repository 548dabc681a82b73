"""Checkpoints in both formats and their metadata: written, read, damaged and crafted."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import save, save_file

from combiner_service.checkpoint import (
    CheckpointMetadata,
    inspect_checkpoint,
    metadata_from_header,
    metadata_to_header,
    read_checkpoint,
    write_checkpoint,
)
from combiner_service.errors import InvalidCheckpointError
from combiner_service.network_spec import NetworkSizes
from combiner_service.torch_network import CombinerNetwork
from service_runtime.settings import software_version
from tests.combiner_service.examples import (
    SMALL,
    combine_by_formulae,
    features_of,
    save_published,
    tensors_of,
    weights_of,
)

pytestmark = pytest.mark.torch

METADATA = CheckpointMetadata(
    model_fingerprint="abc123",
    training_data="FashionIQ train, three categories",
    protocol="gallery=original; captions='a and b'; reference kept",
    metrics={"recall_at_10": 0.354, "recall_at_50": 0.59},
    epoch=41,
    extra={"author": "someone"},
)


def write_own(path: Path, weights: Mapping[str, NDArray[np.float32]]) -> None:
    write_checkpoint(path, weights, METADATA)


def write_bare(path: Path, weights: Mapping[str, NDArray[np.float32]]) -> None:
    save_file(tensors_of(weights), path, metadata={"format": "pt"})


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
    expected_query, expected_scalar = combine_by_formulae(weights, image, text)
    np.testing.assert_allclose(query.numpy(), expected_query, atol=1e-5)
    np.testing.assert_allclose(scalar.numpy(), expected_scalar, atol=1e-5)


def test_own_format_keeps_its_metadata(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a.safetensors", weights_of(), METADATA)
    expected = replace(METADATA, software_version=software_version())
    assert read_checkpoint(tmp_path / "a.safetensors").metadata == expected
    written_elsewhere = replace(METADATA, software_version="9.9")
    write_checkpoint(tmp_path / "a.safetensors", weights_of(), written_elsewhere)
    assert read_checkpoint(tmp_path / "a.safetensors").metadata == written_elsewhere


def test_published_format_keeps_its_epoch(tmp_path: Path) -> None:
    assert read_checkpoint(save_published(tmp_path / "a.pt", weights_of(), epoch=12)).metadata.epoch == 12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_other_floating_point_types_become_float32(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    weights = {key: tensor.to(dtype) for key, tensor in tensors_of(weights_of()).items()}
    if name.endswith(".pth"):
        save_published(tmp_path / name, weights_of(), dtype=dtype)
    else:
        save_file(weights, tmp_path / name)
    for key, array in read_checkpoint(tmp_path / name).weights.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, weights[key].float().numpy())


def test_a_crafted_safetensors_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(InvalidCheckpointError, match="not a whole safetensors file"):
        inspect_checkpoint(path)


def header_of(content: bytes, length: int | None = None) -> bytes:
    return (len(content) if length is None else length).to_bytes(8, "little") + content


def with_header(change: dict[str, Any]) -> bytes:
    """A whole file of ours whose first tensor is described otherwise."""
    whole = save(tensors_of(weights_of()))
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    header["output_layer.weight"] |= change
    return header_of(json.dumps(header).encode()) + whole[8 + length :]


@pytest.mark.parametrize(
    "content",
    [
        header_of(b"", 0),
        header_of(b"{}"),
        header_of(b"not json"),
        header_of(b"[1, 2]"),
        header_of(b"{" * 100_000),
        header_of(b'{"a": ' * 50_000),
        header_of(b"{}" + b" " * (1 << 20)),
        header_of(b"{}", 100_000_000),
        header_of(b"{}", 2**64 - 1),
        header_of(b"\xff\xfe{}"),
        with_header({"shape": [2**40, 2**40]}),
        with_header({"shape": [-1, 16]}),
        with_header({"shape": []}),
        with_header({"shape": [0, 16]}),
        with_header({"shape": [1] * 10_000}),
        with_header({"data_offsets": [0, 2**60]}),
        with_header({"data_offsets": [100, 10]}),
        with_header({"data_offsets": [-4, 4]}),
        with_header({"dtype": "I32"}),
        with_header({"dtype": "no such"}),
    ],
)
def test_crafted_safetensors_are_refused_by_both_readers(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    for read in (inspect_checkpoint, read_checkpoint):
        with pytest.raises(InvalidCheckpointError):
            read(path)


def test_a_damaged_byte_of_ours_is_refused_or_leaves_a_network(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_own(path, weights_of())
    whole = path.read_bytes()
    for position in range(0, len(whole), 17):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        try:
            checkpoint = read_checkpoint(path)
        except InvalidCheckpointError:
            continue
        CombinerNetwork.from_weights(checkpoint.weights)


def test_the_layout_is_as_documented(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_own(path, weights_of())
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    assert (8 + length) % 8 == 0
    assert header.pop("__metadata__") == {
        "cir_format": "combiner/1",
        "feature_dim": "8",
        "projection_dim": "12",
        "hidden_dim": "16",
        "model_fingerprint": "abc123",
        "training_data": "FashionIQ train, three categories",
        "protocol": "gallery=original; captions='a and b'; reference kept",
        "metrics": '{"recall_at_10": 0.354, "recall_at_50": 0.59}',
        "epoch": "41",
        "software_version": software_version(),
        "author": "someone",
    }
    assert set(header) == set(SMALL.shapes())
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        data = np.frombuffer(whole[8 + length + start : 8 + length + end], "<f4")
        assert (entry["dtype"], tuple(entry["shape"])) == ("F32", SMALL.shapes()[name])
        np.testing.assert_array_equal(data.reshape(entry["shape"]), weights_of()[name])
    assert max(entry["data_offsets"][1] for entry in header.values()) == len(whole) - 8 - length


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
    wrong_shape = weights_of() | {"dynamic_scalar.3.bias": np.zeros(2, np.float32)}
    missing = weights_of()
    del missing["output_layer.bias"]
    integers = weights_of() | {"output_layer.bias": np.zeros(SMALL.feature_dim, np.int32)}
    for weights, message in (
        (wrong_shape, r"dynamic_scalar\.3\.bias has the shape \(2,\), expected \(1,\)"),
        (missing, r"missing tensors: output_layer\.bias"),
        (weights_of() | {"logit_scale": np.zeros(1, np.float32)}, "unexpected tensors: logit_scale"),
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


texts = st.text(max_size=20)
names = texts.map(lambda text: f"x-{text}")


@given(
    st.builds(
        CheckpointMetadata,
        model_fingerprint=texts,
        training_data=texts,
        protocol=texts,
        metrics=st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False), max_size=4),
        epoch=st.none() | st.integers(0, 10**6),
        software_version=texts,
        extra=st.dictionaries(names, texts, max_size=3),
    )
)
def test_metadata_comes_back_from_its_header(metadata: CheckpointMetadata) -> None:
    assert metadata_from_header(metadata_to_header(metadata, SMALL), SMALL) == metadata


def test_texts_are_what_is_known_without_the_fingerprint() -> None:
    metadata = CheckpointMetadata(model_fingerprint="f", protocol="p", metrics={"r": 0.5}, epoch=0)
    assert metadata.texts() == {"protocol": "p", "metrics": '{"r": 0.5}', "epoch": "0"}


def test_a_header_without_our_key_says_nothing_of_the_model() -> None:
    header = {"format": "pt", "model_fingerprint": "somebody else's"}
    assert metadata_from_header(header, SMALL) == CheckpointMetadata(extra=header)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("cir_format", "combiner/2", "this version reads 'combiner/1'"),
        ("hidden_dim", "17", "the header says hidden_dim=17, the tensors say 16"),
        ("metrics", "[1]", "not a JSON object of numbers"),
        ("metrics", '{"r": "high"}', "not a JSON object of numbers"),
        ("metrics", '{"r": NaN}', "not all finite"),
        ("metrics", "[" * 10_000, "not a JSON object of numbers"),
        ("training_data", "x" * 20_000, "at most 16384 are read"),
        ("epoch", "last", "not a whole number"),
    ],
)
def test_headers_that_cannot_be_read_are_refused(name: str, value: str, message: str) -> None:
    with pytest.raises(InvalidCheckpointError, match=message):
        metadata_from_header(metadata_to_header(CheckpointMetadata(), SMALL) | {name: value}, SMALL)


def test_metrics_that_are_not_finite_are_not_written() -> None:
    with pytest.raises(ValueError, match="finite"):
        metadata_to_header(CheckpointMetadata(metrics={"r": float("nan")}), SMALL)
