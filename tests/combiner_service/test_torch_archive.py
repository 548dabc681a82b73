import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from combiner_service.checkpoint import inspect_checkpoint, read_checkpoint
from combiner_service.errors import InvalidCheckpointError
from combiner_service.torch_network import CombinerNetwork
from tests.combiner_service.examples import SMALL, save_published, tensors_of, weights_of

pytestmark = pytest.mark.torch

both_readers = pytest.mark.parametrize("read", [inspect_checkpoint, read_checkpoint])


class Crafted:
    """Runs a command where it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.witness,))


@both_readers
def test_a_crafted_pickle_is_refused_and_not_run(tmp_path: Path, read: Any) -> None:
    witness = tmp_path / "ran"
    path = tmp_path / "crafted.pt"
    torch.save({"epoch": Crafted(witness), "Combiner": tensors_of(weights_of())}, path)
    # The file does run when it is unpickled: the refusal below is what keeps it from doing so.
    torch.load(path, weights_only=False)
    assert witness.exists()
    witness.unlink()

    with pytest.raises(InvalidCheckpointError, match="holds more than tensors"):
        read(path)
    assert not witness.exists()


@both_readers
def test_a_crafted_bare_pickle_is_refused_and_not_run(tmp_path: Path, read: Any) -> None:
    witness = tmp_path / "ran"
    path = tmp_path / "crafted.pt"
    path.write_bytes(pickle.dumps(Crafted(witness)))
    with pytest.raises(InvalidCheckpointError):
        read(path)
    assert not witness.exists()


@both_readers
def test_a_torchscript_archive_is_refused(tmp_path: Path, read: Any) -> None:
    # Put together from the layout of such archives: torch.jit itself is on its way out of torch.
    path = tmp_path / "script.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("combiner/data.pkl", pickle.dumps({}))
        archive.writestr("combiner/code/__torch__.py", "class Combiner(Module): ...")
        archive.writestr("combiner/constants.pkl", pickle.dumps(()))
    with pytest.raises(InvalidCheckpointError, match="TorchScript archive, which is a program"):
        read(path)


@both_readers
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list"),
        (torch.zeros(3), "holds a Tensor"),
        ({}, "no 'Combiner' but: nothing"),
        ({"epoch": 1, "CLIP": {}}, "fine-tuned CLIP belongs to the embedder"),
        (tensors_of(weights_of()), r"no 'Combiner' but: text_projection_layer\.weight"),
        ({"epoch": 1, "Combiner": [1]}, "not a state dict"),
        ({"epoch": 1, "Combiner": {1: torch.zeros(1)}}, "not a state dict"),
        ({"epoch": 1, "Combiner": {"output_layer.bias": 3}}, "not a dense tensor"),
        ({"epoch": 1, "Combiner": {"a": torch.zeros(1).expand(10**9)}}, "not a dense tensor"),
        ({"epoch": 1, "Combiner": {"a": torch.zeros(3, 2).T}}, "not a dense tensor"),
        ({"epoch": 1, "Combiner": {"a": torch.zeros(3, dtype=torch.int64)}}, "not a dense tensor"),
    ],
)
def test_other_contents_are_refused(tmp_path: Path, read: Any, content: object, message: str) -> None:
    path = tmp_path / "a.pt"
    torch.save(content, path)
    with pytest.raises(InvalidCheckpointError, match=message):
        read(path)


@both_readers
def test_an_epoch_is_not_needed(tmp_path: Path, read: Any) -> None:
    path = tmp_path / "a.pt"
    torch.save({"Combiner": tensors_of(weights_of())}, path)
    assert read(path).metadata.epoch is None
    assert read(path).sizes == SMALL


@both_readers
def test_the_older_layout_of_torch_save_is_read(tmp_path: Path, read: Any) -> None:
    path = tmp_path / "a.pt"
    torch.save({"epoch": 3, "Combiner": tensors_of(weights_of())}, path, _use_new_zipfile_serialization=False)
    assert read(path).metadata.epoch == 3


@both_readers
@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04", b"\x80\x02}", bytes(10_000)])
def test_garbage_is_refused(tmp_path: Path, read: Any, content: bytes) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(InvalidCheckpointError):
        read(path)


def test_a_damaged_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    whole = io.BytesIO()
    torch.save({"epoch": 1, "Combiner": tensors_of(weights_of())}, whole)
    path = tmp_path / "a.pt"
    for position in range(0, len(whole.getvalue()), 61):
        content = bytearray(whole.getvalue())
        content[position] ^= 0xFF
        path.write_bytes(content)
        try:
            checkpoint = read_checkpoint(path)
        except InvalidCheckpointError:
            continue
        CombinerNetwork.from_weights(checkpoint.weights)


def test_inspection_gives_what_reading_gives(tmp_path: Path) -> None:
    path = save_published(tmp_path / "a.pt", weights_of())
    assert inspect_checkpoint(path).sizes == read_checkpoint(path).sizes == SMALL


@both_readers
def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path: Path, read: Any) -> None:
    sound = save_published(tmp_path / "sound.pt", weights_of())
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(sound) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, bytes(50_000_000) if name.endswith("/data/0") else source.read(name))
    assert path.stat().st_size < 100_000
    with pytest.raises(InvalidCheckpointError, match="compressed archive"):
        read(path)


def archive_of(path: Path, pickled: bytes, storages: dict[str, bytes] | None = None) -> Path:
    """Put an archive together as torch.save does, of a pickle that it would not write."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        for key, content in (storages or {}).items():
            archive.writestr(f"a/data/{key}", content)
    return path


@both_readers
@pytest.mark.parametrize(
    "pickled",
    [
        pytest.param(b"\x80\x02]r" + (2**31).to_bytes(4, "little") + b".", id="a far place in memory"),
        pytest.param(b"\x80\x02}" + b")" + b"\x85" * 900_000 + b"K\x01s.", id="a deeply nested key"),
        pytest.param(b"\x80\x02}(" + b")" + b"\x85" * 900_000 + b"K\x01u.", id="deeply nested keys"),
        pytest.param(b"\x80\x02(" + b")" + b"\x85" * 900_000 + b"K\x01d.", id="a dictionary of such"),
        pytest.param(
            b"\x80\x02(X\x07\x00\x00\x00storage)"
            + b"\x85" * 900_000
            + b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ.",
            id="a storage of a deeply nested class",
        ),
        pytest.param(b"\x80\x04\x8f(" + b")" + b"\x85" * 900_000 + b"\x90.", id="a set of such"),
        pytest.param(b"\x80\x02" + b"]" * 900_000 + b"a" * 899_999 + b".", id="lists in lists"),
        pytest.param(b"\x80\x02X" + (2**31 - 1).to_bytes(4, "little") + b"a.", id="a text too long"),
        pytest.param(b"\x80\x02\x8b" + (2**31 - 1).to_bytes(4, "little") + b"\x01.", id="a number likewise"),
        pytest.param(b"\x80\x02ccollections\nOrderedDict\n)\x81}b.", id="a state that is set"),
        pytest.param(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02K\x03tR.", id="no storage"),
        pytest.param(b"\x80\x02cbuiltins\neval\n(X\x03\x00\x00\x001+1tR.", id="a call"),
        pytest.param(b"cposix\nsystem\n(S'true'\ntR.", id="a call of protocol 0"),
        pytest.param(b"(S'true'\niposix\nsystem\n.", id="an instance"),
        pytest.param(b"\x80\x02\x82\x01.", id="an extension"),
    ],
)
def test_crafted_pickles_are_refused(tmp_path: Path, read: Any, pickled: bytes) -> None:
    with pytest.raises(InvalidCheckpointError):
        read(archive_of(tmp_path / "a.pt", pickled))


def test_a_storage_that_is_shorter_than_its_tensor_is_refused(tmp_path: Path) -> None:
    whole = save_published(tmp_path / "whole.pt", weights_of())
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content[:-4] if name.endswith("/data/0") else content)
    with pytest.raises(InvalidCheckpointError, match="storage 0 is cut short"):
        read_checkpoint(path)


@pytest.mark.parametrize("new_layout", [True, False])
def test_shared_storages_and_parameters_are_read_as_torch_reads_them(
    tmp_path: Path, new_layout: bool
) -> None:
    weights = tensors_of(weights_of())
    flat = torch.cat([tensor.reshape(-1) for tensor in weights.values()])
    ends = torch.tensor([tensor.numel() for tensor in weights.values()]).cumsum(0).tolist()
    views = {
        name: flat[end - tensor.numel() : end].view(tensor.shape)
        for (name, tensor), end in zip(weights.items(), ends, strict=True)
    }
    views["output_layer.bias"] = torch.nn.Parameter(views["output_layer.bias"].clone())
    path = tmp_path / "a.pt"
    torch.save({"epoch": 2, "Combiner": views}, path, _use_new_zipfile_serialization=new_layout)
    found = read_checkpoint(path).weights
    for name, tensor in weights.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())


@both_readers
def test_a_crafted_list_of_storages_in_the_older_layout_is_refused(tmp_path: Path, read: Any) -> None:
    path = tmp_path / "a.pt"
    torch.save({"epoch": 3, "Combiner": {}}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    empty = pickle.dumps([], protocol=2)
    assert whole.endswith(empty)
    path.write_bytes(whole.removesuffix(empty) + b"\x80\x02])" + b"\x85" * 900_000 + b"a.")
    with pytest.raises(InvalidCheckpointError, match="something else than storages"):
        read(path)
