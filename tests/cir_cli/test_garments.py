"""`cir garments` and `cir dataset`: what they print, and their exit codes."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from cir_cli.main import run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a catalog, and what was printed about it."""
    folder = tmp_path_factory.mktemp("garments") / "shop"
    with redirect_stdout(io.StringIO()) as printed:
        assert run(["garments", "make", str(folder), "--size", "120", "--seed", "3", "--quiet"]) == 0
    return folder, printed.getvalue()


@pytest.fixture
def folder(made: tuple[Path, str]) -> Path:
    return made[0]


@pytest.mark.slow
def test_making_says_what_was_made(made: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    folder, printed = made
    assert run(["garments", "make", str(folder), "--size", "120", "--seed", "3", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["garments"] == 120
    assert document["manifest"] == str(folder / "garments.jsonl")
    assert f"drew 120 garments: {folder / 'garments.jsonl'}" in printed
    assert f"{document['train_triplets']} train" in printed
    assert run(["garments", "make", str(folder), "--size", "120", "--seed", "4"]) == 1
    assert "holds another catalog" in capsys.readouterr().err


@pytest.mark.slow
def test_a_whole_data_set_passes_the_check(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dataset", "check", "triplets", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["split", "queries"]
    assert [line.split()[0] for line in lines[1:]] == ["train", "val", "test"]
    assert all(line.endswith("100.0%") for line in lines[1:])


def test_an_exported_split_passes_the_check(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "exported.jsonl"
    assert run(["dataset", "export", "triplets", str(folder), str(out), "--split", "test", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert run(["dataset", "check", "triplets", str(out), "--no-decode", "--json"]) == 0
    [split] = json.loads(capsys.readouterr().out)["splits"]
    assert told == {
        "file": str(out), "queries": split["queries"], "images": split["gallery"], "splits": ["test"],
        "published_reference": "drop",
    }  # fmt: skip
    out.unlink()
    assert run(["dataset", "export", "triplets", str(folder), str(folder.parent / "no/x.jsonl")]) == 1
    assert "write the manifest to a folder that has all images" in capsys.readouterr().err


def test_missing_pictures_are_counted_and_end_with_3(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = sorted((folder / "images").iterdir())[0]
    content = lost.read_bytes()
    lost.unlink()
    try:
        assert run(["dataset", "check", "triplets", str(folder), "--split", "test", "--json", "-q"]) == 3
        captured = capsys.readouterr()
        assert run(["dataset", "check", "triplets", str(folder), "--split", "test"]) == 3
        assert f"test: missing: images/{lost.name}" in capsys.readouterr().out
    finally:
        lost.write_bytes(content)
    document = json.loads(captured.out)
    assert (document["dataset"], document["complete"]) == ("triplets", False)
    [split] = document["splits"]
    assert (split["split"], split["missing"]) == ("test", [f"images/{lost.name}"])
    assert 0 < split["answerable_share"] <= 1
    assert json.loads(captured.err)["error"]["message"].startswith("test: images cannot be read")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["cirr", "."], "has no folder 'captions'"),
        (["triplets", "nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (["fashioniq", ".", "--split", "val"], "has no folder 'captions'"),
    ],
)
def test_annotation_that_cannot_be_read_ends_with_1(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["dataset", "check", *arguments]) == 1
    assert told in capsys.readouterr().err
