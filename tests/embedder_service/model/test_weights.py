"""Architectures and checkpoints: what loads, and what one line says where nothing does."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from embedder_service.model.weights import load_model
from service_runtime.errors import StartupError
from tests.embedder_service.small_config import CONFIG, write_config
from tests.embedder_service.small_model import load_small, save

pytestmark = pytest.mark.torch


def state_of(folder: Path, pretrained: str) -> dict[str, torch.Tensor]:
    return load_small(folder, pretrained).module.state_dict()


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_random_weights_come_from_their_seed_and_leave_torch_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    assert same(state_of(tmp_path, "random"), state_of(tmp_path, "random:0"))
    assert not same(state_of(tmp_path, "random:1"), state_of(tmp_path, "random:0"))
    assert torch.equal(torch.rand(1), expected)
    assert load_small(tmp_path, "random").pretrained == "random:0"


def wrap_nothing(state: dict[str, Any]) -> dict[str, Any]:
    return state


def wrap_published(state: dict[str, Any]) -> dict[str, Any]:
    return {"epoch": 3, "CLIP": state}


def wrap_trainer(state: dict[str, Any]) -> dict[str, Any]:
    return {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}


def wrap_openai(state: dict[str, Any]) -> dict[str, Any]:
    extra = {name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")}
    return state | extra


@pytest.mark.parametrize(
    ("wrap", "name", "quick_gelu"),
    [
        (wrap_nothing, "model.safetensors", False),
        (wrap_nothing, "model.pt", False),
        (wrap_published, "tuned_clip.pt", True),
        (wrap_trainer, "epoch_3.pt", False),
        (wrap_openai, "openai.pt", True),
    ],
)
def test_checkpoints_load_in_every_layout(tmp_path: Path, wrap: Any, name: str, quick_gelu: bool) -> None:
    state = state_of(tmp_path, "random:3")
    loaded = load_small(tmp_path, str(save(wrap(dict(state)), tmp_path / name)))
    assert same(loaded.module.state_dict(), state)
    assert loaded.pretrained == name
    assert loaded.config["quick_gelu"] is quick_gelu
    assert not loaded.module.training


def test_half_precision_checkpoints_load_into_float32(tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in state_of(tmp_path, "random:3").items()}
    loaded = load_small(tmp_path, str(save(state, tmp_path / "half.safetensors")))
    assert {tensor.dtype for tensor in loaded.module.state_dict().values()} == {torch.float32}


class Harmful:
    """Unpickled, it would leave a trace."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (eval, ("__import__('pathlib').Path('unpickled').touch()",))


def test_pickled_objects_are_refused_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Harmful()))
    torch.save({"epoch": 1, "CLIP": Harmful()}, tmp_path / "torch.pt")
    for name in ("plain.pt", "torch.pt"):
        with pytest.raises(StartupError, match="cannot be read as plain tensors"):
            load_small(tmp_path, str(tmp_path / name))
    assert not (tmp_path / "unpickled").exists()


def test_pickles_in_other_clothes_are_refused_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(Harmful(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.save(state_of(tmp_path, "random:3"), tmp_path / "changed.pt")
    # A whole checkpoint whose object graph was exchanged for one that does harm.
    with (
        zipfile.ZipFile(tmp_path / "changed.pt") as whole,
        zipfile.ZipFile(tmp_path / "swapped.pt", "w") as swapped,
    ):
        for name in whole.namelist():
            content = pickle.dumps(Harmful()) if name.endswith("data.pkl") else whole.read(name)
            swapped.writestr(name, content)
    (tmp_path / "named.safetensors").write_bytes(pickle.dumps(Harmful()))
    for name in ("old.pt", "swapped.pt", "named.safetensors"):
        with pytest.raises(StartupError) as caught:
            load_small(tmp_path, str(tmp_path / name))
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "unpickled").exists()


def test_torchscript_is_refused_with_the_way_to_convert_it(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, tmp_path / "openai.pt")
    with pytest.raises(StartupError, match=r"TorchScript archive.*torch\.jit\.load") as caught:
        load_small(tmp_path, str(tmp_path / "openai.pt"))
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_model_is_told_apart(tmp_path: Path) -> None:
    state = dict(state_of(tmp_path, "random:3"))
    state["surplus"] = torch.zeros(1)
    state["text_projection"] = torch.zeros(3, 3)
    del state["ln_final.weight"]
    with pytest.raises(StartupError) as caught:
        load_small(tmp_path, str(save(state, tmp_path / "other.pt")))
    message = str(caught.value)
    for part in ("missing (first: ln_final.weight)", "unexpected (first: surplus)", "of another shape"):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.pt", b"", "cannot be read as plain tensors"),
        ("noise.pt", b"\x07" * 400, "cannot be read as plain tensors"),
        ("noise.safetensors", b"\x07" * 400, "is not a safetensors file"),
    ],
)
def test_damaged_checkpoints_are_told(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StartupError, match=message) as caught:
        load_small(tmp_path, str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_checkpoint_without_state_dict_is_told(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="holds no state dict"):
        load_small(tmp_path, str(save({"epoch": 3}, tmp_path / "empty.pt")))


def test_names_that_are_not_known_are_told() -> None:
    with pytest.raises(StartupError, match="'ViT-X-99' is not known"):
        load_model("ViT-X-99", "random")
    with pytest.raises(StartupError, match=r"neither a file, nor a tag of ViT-B-32 \(tags: openai"):
        load_model("ViT-B-32", "nonsense")
    with pytest.raises(StartupError, match="seed must be a number"):
        load_model("ViT-B-32", "random:x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be used"),
        ("[]", "cannot be used"),
        ('{"embed_dim": 3}', "it needs embed_dim, vision_cfg and text_cfg"),
        ('{"embed_dim": 3, "vision_cfg": {"nonsense": 1}, "text_cfg": {}}', "cannot be built"),
    ],
)
def test_faulty_config_files_are_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.json"
    path.write_text(text)
    with pytest.raises(StartupError, match=message):
        load_model("own", "random", config_file=path)
    with pytest.raises(StartupError, match="cannot be used"):
        load_model("own", "random", config_file=tmp_path / "missing.json")


def test_a_config_file_may_bring_its_normalisation(tmp_path: Path) -> None:
    path = write_config(tmp_path, model_cfg=CONFIG, preprocess_cfg={"mean": [0.5] * 3, "std": [0.25] * 3})
    loaded = load_model("small", "random", config_file=path)
    assert (loaded.mean, loaded.std) == ((0.5,) * 3, (0.25,) * 3)
