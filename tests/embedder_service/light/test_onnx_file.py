"""ONNX files: nothing that brings code along, and no file from elsewhere."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedder_service.light.onnx_file import check_onnx
from embedder_service.loading import SHIPPED
from service_runtime.errors import StartupError
from tests.embedder_service.light.onnx_bytes import external, field, model, node

SOUND = model(node("Relu"))


def refused(path: Path, content: bytes) -> str:
    """Return the message with which a file is refused."""
    path.write_bytes(content)
    with pytest.raises(StartupError) as caught:
        check_onnx(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_exported_towers_are_read() -> None:
    for tower in ("visual", "textual"):
        found = check_onnx(SHIPPED / "cir-small" / tower / "model.onnx")
        assert (found.opset, found.foreign, found.external) == (18, set(), set())
        assert found.nodes > 100


def test_a_sound_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(SOUND)
    assert check_onnx(path).nodes == 1


def nested(inner: bytes, depth: int) -> bytes:
    """Return a node whose branch holds a graph, which holds a node, and so on."""
    for _ in range(depth):
        inner = node("If", "", field(6, field(1, inner)))
    return inner


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (model(node("Evil", "com.example")), "com.example.Evil"),
        (model(nested(node("Evil", "com.example"), 3)), "com.example.Evil"),
        (model(nested(node("Relu"), 9)), "too deep"),
        (model(node("Relu"), more=field(25, field(1, "f"))), "functions"),
        (model(node("Relu"), opset=99), "opset 99"),
        (model(node("Relu"), opset=1), "opset 1"),
        (model(node("Relu"), tensors=(external("../outside.bin"),)), "outside"),
        (model(node("Relu"), tensors=(external("/etc/passwd"),)), "outside"),
        (model(node("Relu"), tensors=(external(""),)), "outside"),
        (model(node("Relu"), tensors=(external("absent.bin"),)), "missing"),
        (model(node("Constant", "", field(5, external("../outside.bin")))), "outside"),
        (model(nested(node("Constant", "", field(5, external("../outside.bin"))), 2)), "outside"),
        (model(), "nothing to compute"),
        (b"", "no whole ONNX file"),
        (b"not a model at all", "no whole ONNX file"),
        (field(7, 3), "no whole ONNX file"),
    ],
)
def test_what_is_not_computed_here_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    assert expected in refused(tmp_path / "model.onnx", content)


def test_a_link_that_leads_out_of_the_folder_is_outside(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(b"x")
    folder = tmp_path / "visual"
    folder.mkdir()
    (folder / "weights.bin").symlink_to(tmp_path / "secret.bin")
    content = model(node("Relu"), tensors=(external("weights.bin"),))
    assert "outside" in refused(folder / "model.onnx", content)


def test_a_missing_tower_says_what_a_folder_has(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"missing; a model folder has visual/model\.onnx"):
        check_onnx(tmp_path / "visual" / "model.onnx")


@given(end=st.integers(0, len(SOUND) - 1))
def test_a_file_that_is_cut_short_is_refused(tmp_path_factory: pytest.TempPathFactory, end: int) -> None:
    refused(tmp_path_factory.mktemp("cut") / "model.onnx", SOUND[:end])


@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "model.onnx"
    path.write_bytes(content)
    with suppress(StartupError):
        assert check_onnx(path).nodes > 0
