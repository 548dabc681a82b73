"""`cir models`: folders are listed and compared without torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cir_cli.main import run
from embedder_service.loading import SHIPPED

# Importing what reads data sets starts a process.
pytestmark = pytest.mark.service


def test_the_shipped_model_and_those_of_a_folder_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "cir_model.json").write_text("{}")
    assert run(["models", "list", str(tmp_path), "--json"]) == 0
    shipped, refused = json.loads(capsys.readouterr().out)["models"]
    assert (shipped["name"], shipped["folder"]) == ("cir-small/shipped", str(SHIPPED / "cir-small"))
    assert "cannot be used" in refused["refused"]
    assert run(["models", "list"]) == 0
    assert "cir-small/shipped" in capsys.readouterr().out
    assert run(["models", "list", str(tmp_path / "absent")]) == 1
    assert "is no folder" in capsys.readouterr().err


def test_an_export_of_others_is_listed_by_its_documents(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for tower in ("visual", "textual"):
        (tmp_path / "clip" / tower).mkdir(parents=True)
    (tmp_path / "clip" / "config.json").write_text(json.dumps({"embed_dim": 512, "text_cfg": {}}))
    (tmp_path / "clip" / "visual" / "preprocess_cfg.json").write_text(json.dumps({"size": [224, 224]}))
    assert run(["models", "list", str(tmp_path), "--json"]) == 0
    _, found = json.loads(capsys.readouterr().out)["models"]
    assert (found["name"], found["facts"]) == ("clip/onnx", "224 pixels, 512 dimensions, 0.0 MB")
    # Nothing of it can be run.
    assert run(["models", "check", str(tmp_path / "clip")]) == 1
    said = capsys.readouterr().err
    assert "visual/model.onnx is missing" in said
    assert len(said.splitlines()) == 1


def test_a_folder_is_compared_with_torch_in_each_dtype(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "check", str(SHIPPED / "cir-small"), "--seconds", "0.1", "--json"]) == 0
    rows = {row["dtype"]: row for row in json.loads(capsys.readouterr().out)["dtypes"]}
    assert rows.keys() == {"float32", "bfloat16", "int8"}
    assert rows["float32"]["cosine"] > 0.99999
    assert rows["float32"]["difference"] < 1e-4
    assert all("refused" in row or row["image_ms"] > 0 for row in rows.values())


def test_what_is_no_model_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "check", str(tmp_path)]) == 1
    assert "cir_model.json cannot be used" in capsys.readouterr().err


def test_export_says_which_part_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cir_cli.errors.find_spec", lambda name: None)
    assert run(["models", "export", str(tmp_path / "out")]) == 1
    assert "[export]" in capsys.readouterr().err
