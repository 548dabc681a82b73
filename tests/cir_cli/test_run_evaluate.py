"""From a folder of pictures to a table: extract, train, evaluate, compare and submit, by the command
alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cir_cli import datasets
from cir_cli.main import run
from cir_cli.train import train
from combiner_training.captions import Joining
from combiner_training.datasets.cirr import load_cirr
from combiner_training.datasets.load import Dataset
from combiner_training.evaluation.protocol import Gallery, Reference
from combiner_training.feature_file import paths_of, read_table
from combiner_training.options import TrainOptions
from tests.combiner_training.datasets.layouts import write_cirr, write_fashioniq, write_lines
from tests.embedder_service.small_config import write_config

pytestmark = pytest.mark.torch

COLOURS = ("red", "green", "blue", "white", "black", "yellow")


@pytest.fixture(autouse=True)
def small_embedder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The embedder's settings name a small model of random weights."""
    settings = {
        "ARCHITECTURE": "small",
        "MODEL_CONFIG_FILE": str(write_config(tmp_path)),
        "PRETRAINED": "random:7",
        "DEVICE": "cpu",
        "DTYPE": "float32",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"CIR_EMBEDDER_{name}", value)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def picture(path: Path, colour: str, stripe: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (40, 40), colour)
    image.paste(stripe, (0, 10, 40, 20))
    image.save(path)


def triplets(root: Path) -> Path:
    """Striped squares; a text asks for another colour of the stripe. One picture is missing, one is
    broken."""
    names = {(a, b): f"{a}-{b}.png" for a in COLOURS for b in COLOURS if a != b}
    for (ground, stripe), name in names.items():
        picture(root / name, ground, stripe)
    (root / "red-black.png").unlink()
    (root / "red-white.png").write_bytes(b"no picture")
    rows: list[dict[str, Any]] = []
    for index, ((ground, stripe), name) in enumerate(names.items()):
        for other in COLOURS:
            if other not in (ground, stripe):
                rows.append(
                    {
                        "id": f"{name}>{other}",
                        "reference": name,
                        "text": f"with a {other} stripe",
                        "target": names[ground, other],
                        "split": "val" if index % 5 == 0 else "train",
                    }
                )
    write_lines(root / "triplets.jsonl", rows)
    write_lines(
        root / "dialogues.jsonl",
        [
            {"id": "1", "split": "val", "reference": "blue-red.png",
             "turns": [{"text": "with a white stripe", "targets": ["blue-white.png"]},
                       {"text": "on green", "targets": ["green-white.png"]}]}
        ],
    )  # fmt: skip
    return root


def succeed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Standard output of a command that succeeds."""
    code = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def reserve(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Standard output of a command that succeeds with a reservation, which it ends with."""
    code = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == 3, captured.err
    last = captured.err.splitlines()[-1]
    assert last.startswith(("cir: ", '{"error"'))
    return captured.out


def fail(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 1) -> str:
    """The one line on standard error of a command that fails for a reason."""
    found = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert found == code, captured.err
    [line] = [line for line in captured.err.splitlines() if line.startswith("cir: ")]
    return line


def extracted(capsys: pytest.CaptureFixture[str], dataset: str, root: Path, *, code: int = 0) -> list[object]:
    """Options that name a data set whose features have been extracted, which ends with `code`."""
    data: list[object] = ["--dataset", dataset, "--root", root]
    extract = ["features", "extract", *data, "--out", root / "features", "-q"]
    assert run([str(argument) for argument in extract]) == code
    capsys.readouterr()
    return [*data, "--features", root / "features"]


def copy(file: Path, folder: Path) -> Path:
    folder.mkdir()
    return Path(shutil.copy(file, folder))


@pytest.mark.service
@pytest.mark.slow
def test_from_pictures_to_a_served_combiner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = triplets(tmp_path / "data")
    data = ["--dataset", "garments", "--root", root]
    printed = reserve(capsys, "features", "extract", *data, "--out", root / "features")
    table = read_table(paths_of(root / "features")[0])
    length = np.linalg.norm(table.take(np.flatnonzero(table.usable)), axis=1).mean()
    assert (
        f"30 images: 30 embedded, 0 kept, mean length {length:.1f}; WITHOUT FEATURES: 1 missing, 1 unusable"
    ) in printed
    assert "7 texts: 7 embedded" in printed
    again = json.loads(reserve(capsys, "features", "extract", *data, "--out", root / "features", "--json"))
    assert [(one["kind"], one["embedded"], one["kept"]) for one in again["features"]] == [
        ("images", 2, 28),
        ("texts", 0, 7),
    ]
    table = read_table(paths_of(root / "features")[0])
    assert table.header.model["architecture"] == "small"
    assert table.header.model["preprocessing"] == "targetpad"

    data += ["--features", root / "features"]
    small = [
        "--batch-size",
        16,
        "--projection",
        16,
        "--hidden",
        16,
        "--learning-rate",
        0.002,
        "--device",
        "cpu",
    ]
    train = ["train", *data, "--out", tmp_path / "run", *small]
    printed = reserve(capsys, *train, "--epochs", 2, "--schedule", "constant")
    assert "LEFT OUT: " in printed
    assert "MISSING: " in printed
    assert "holds a training" in fail(capsys, *train, "--epochs", 3)
    done = json.loads(reserve(capsys, *train, "--epochs", 3, "--resume", "--json", "--schedule", "constant"))
    assert done["epoch"] == 3
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "best.safetensors", "last.safetensors", "state.safetensors", "metrics.jsonl", "metrics.csv",
        "learning_curve.png", "text_weights.png",
    }  # fmt: skip

    best = tmp_path / "run" / "best.safetensors"
    found = json.loads(reserve(capsys, "evaluate", *data, "--combiner", best, "--device", "cpu", "--json"))
    assert found["counts"]["gallery_missing"] == 2
    assert found["metrics"]["recall@10"] + found["metrics"]["recall@1"] == pytest.approx(
        2 * done["best"]["best"]
    )
    assert found["dialogues"]["answered"] == 1
    printed = reserve(capsys, "evaluate", *data, "--combiner", "sum", "--text-weight", 0.3)
    assert "MISSING: " in printed
    assert "mean text weight 0.300" in printed

    out = tmp_path / "compared"
    last = [best.with_name("last.safetensors"), copy(best, tmp_path / "other")]
    more = ["--combiner", best, "--combiner", last[0], "--combiner", last[1]]
    printed = reserve(capsys, "compare", *data, *more, "--out", out, "-q", "--device", "cpu")
    assert (out / "comparison.md").read_text() == printed
    assert "S@10 of dialogues" in printed
    document = json.loads((out / "comparison.json").read_text())
    assert document["dataset"] == "garments"
    assert [row["combiner"] for row in document["rows"]] == [
        "image", "text", "sum", "weighted_sum", "unit_sum", "slerp", "best_slerp", "run/best", "last",
        "other/best",
    ]  # fmt: skip
    assert all(0 <= row["recall@1"] <= row["recall@10"] <= 1 for row in document["rows"])
    with Image.open(out / "comparison.png") as chart:
        assert chart.format == "PNG"


def test_fashioniq_by_category_and_protocol(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for category in ("dress", "shirt", "toptee"):
        write_fashioniq(tmp_path, category=category)
    for index, name in enumerate(("B1", "B2", "B3", "B4")):
        picture(tmp_path / "images" / f"{name}.png", COLOURS[index], COLOURS[index + 1])
    data = extracted(capsys, "fashioniq", tmp_path)
    # Two captions give four texts for each of two queries; of " and is red" and the like none is lost.
    assert len(read_table(paths_of(tmp_path / "features")[1]).header.names) == 8
    seen = {}
    for gallery in ("original", "val"):
        for reference in ("keep", "drop"):
            command = [
                "evaluate",
                *data,
                "--combiner",
                "image",
                "--gallery",
                gallery,
                "--reference",
                reference,
            ]
            found = json.loads(succeed(capsys, *command, "--captions", "first", "--json"))
            assert f"gallery={gallery}; reference={reference}; captions=first" in found["protocol"]
            assert set(found["parts"]) == {"dress/val", "shirt/val", "toptee/val"}
            seen[gallery, reference] = (found["counts"]["gallery"], found["metrics"]["recall@1"])
    assert [size for size, _ in seen.values()] == [12, 12, 9, 9]
    # The image itself is nearest to the image, unless it is dropped.
    assert seen["original", "keep"][1] == 0.0
    one = json.loads(succeed(capsys, "evaluate", *data, "--combiner", "sum", "--category", "dress", "--json"))
    assert one["counts"]["queries"] == 2
    assert "published elsewhere" in succeed(capsys, "compare", *data, "-q")


def test_cirr_is_evaluated_and_refused_for_submission_while_it_is_small(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("val", "test1"):
        write_cirr(tmp_path, split)
        for index, path in enumerate(load_cirr(tmp_path, split).paths.values()):
            picture(path, COLOURS[index], COLOURS[index + 1])
    data = extracted(capsys, "cirr", tmp_path)
    found = json.loads(succeed(capsys, "evaluate", *data, "--combiner", "sum", "--json"))
    assert found["metrics"]["recall_subset@2"] == 1.0
    assert "the targets of test1 are withheld" in fail(
        capsys, "evaluate", *data, "--combiner", "sum", "--split", "test1"
    )
    submit = ["cirr-submission", *data[2:], "--combiner", "sum", "--out", tmp_path / "out"]
    assert "expected 50 different names" in fail(capsys, *submit)
    assert not (tmp_path / "out").exists()


def test_faults_are_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = triplets(tmp_path / "data")
    data = extracted(capsys, "triplets", root, code=3)
    evaluate: Sequence[object] = ["evaluate", *data, "--combiner"]
    assert "no split 'test'" in fail(capsys, *evaluate, "sum", "--split", "test")
    assert "no.safetensors does not exist" in fail(capsys, *evaluate, tmp_path / "no.safetensors")
    assert "joint/NAME) nor a checkpoint" in fail(capsys, *evaluate, "smu")
    assert "no combiner/no ships, there is combiner/garments" in fail(capsys, *evaluate, "combiner/no")
    assert "was trained on features of model" in fail(capsys, *evaluate, "combiner/garments")
    assert "has a fixed text weight" in fail(capsys, *evaluate, "image", "--text-weight", 0.5, code=2)
    assert "has one; leave it out" in fail(capsys, *evaluate, "sum", "--captions", "second", code=2)
    assert "sum is neither" in fail(capsys, *evaluate, "sum", "--model", "small", code=2)
    assert "has no categories" in fail(capsys, *evaluate, "sum", "--category", "dress", code=2)
    compare = ["compare", *data, "-q", "--combiner"]
    assert "stands in every comparison" in fail(capsys, *compare, "slerp", code=2)
    train = ["train", *data, "--out", tmp_path / "run", "--batch-size", 16]
    line = fail(capsys, *train, "--validation-split", "dev")
    both = fail(capsys, *train, "--validation-split", "train", code=2)
    assert "both 'train'" in both
    assert "nothing to validate on" in line
    assert "--no-validation" in line
    assert "make no batch of 4096" in fail(capsys, "train", *data, "--out", tmp_path / "run")
    missing = [*data[:4], "--features", tmp_path / "none"]
    assert "make it with: cir features extract" in fail(capsys, "evaluate", *missing, "--combiner", "sum")
    extract = ["features", "extract", *data[:4], "--out", root / "features", "-q"]
    assert "'int4'" in fail(capsys, *extract, "--dtype", "int4", code=2)
    assert "holds float16, not float32" in fail(capsys, *extract, "--dtype", "float32")
    assert "a running embedder" in fail(capsys, *extract, "--embedder", "a:1", "--model", "b", code=2)
    assert "this model is" in fail(capsys, *extract, "--pretrained", "random:8")
    (root / "triplets.jsonl").write_text("{")
    assert "line 1 is not JSON" in fail(capsys, *evaluate, "sum")
    assert "no category 'hat'" in fail(
        capsys, "evaluate", "--dataset", "fashioniq", *data[2:], "--combiner", "sum", "--category", "hat"
    )


def test_texts_of_dialogues_are_extracted_and_their_images_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = triplets(tmp_path / "data")
    rows = [
        {
            "id": "1",
            "split": "val",
            "reference": "no.png",
            "turns": [{"text": "x", "targets": ["blue-red.png"]}],
        }
    ]
    talks = write_lines(tmp_path / "talks.jsonl", rows)
    extract = ["features", "extract", "--dataset", "triplets", "--root", root, "--out", tmp_path / "f", "-q"]
    assert "'no.png' is no image of the data set" in fail(capsys, *extract, "--dialogues", talks)
    reserve(capsys, *extract)
    assert "on green" not in read_table(paths_of(tmp_path / "f")[1])
    reserve(capsys, *extract, "--dialogues", root / "dialogues.jsonl")
    assert "on green" in read_table(paths_of(tmp_path / "f")[1])


def test_a_split_without_dialogues_needs_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = triplets(tmp_path / "data")
    picture(root / "of-val.png", "blue", "red")
    rows = [{"image": name, "split": "val"} for name in ("of-val.png", "green-red.png")]
    with (root / "triplets.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    talk = {"id": "1", "split": "val", "reference": "of-val.png"}
    turns = [{"text": "on green", "targets": ["green-red.png"]}]
    write_lines(root / "dialogues.jsonl", [{**talk, "turns": turns}])
    data = ["--dataset", "garments", "--root", root]
    extract = ["features", "extract", *data, "--out", tmp_path / "f", "-q", "--split"]
    reserve(capsys, *extract, "train")
    assert "on green" not in read_table(paths_of(tmp_path / "f")[1])
    reserve(capsys, *extract, "val")
    assert "on green" in read_table(paths_of(tmp_path / "f")[1])
    evaluate = ["evaluate", *data, "--features", tmp_path / "f", "--combiner", "sum", "--split"]
    assert "S@10 of dialogues" not in reserve(capsys, *evaluate, "train")
    assert "S@10 of dialogues" in reserve(capsys, *evaluate, "val")
    given = [*evaluate, "train", "--dialogues", root / "dialogues.jsonl"]
    assert "no dialogues in split 'train'" in fail(capsys, *given)


def test_options_say_what_the_services_say() -> None:
    names = (
        (datasets.DatasetName, Dataset),
        (datasets.GalleryName, Gallery),
        (datasets.ReferenceName, Reference),
        (datasets.CaptionsName, Joining),
    )
    for option, meant in names:
        assert [str(name) for name in option] == [str(name) for name in meant]
    offered = {name: parameter.default for name, parameter in signature(train).parameters.items()}
    for name, default in asdict(TrainOptions()).items():
        assert offered[name] == default


def test_features_do_not_depend_on_the_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = triplets(tmp_path / "data")
    extract = ["features", "extract", "--dataset", "triplets", "--root", root, "--dtype", "float32", "-q"]
    for size in (1, 7):
        reserve(capsys, *extract, "--out", tmp_path / str(size), "--batch-items", size)
    one, seven = (read_table(paths_of(tmp_path / name)[0]).matrix for name in ("1", "7"))
    np.testing.assert_allclose(one, seven, atol=1e-5)


@pytest.mark.torch
def test_a_model_that_nobody_named_and_that_cannot_be_had_names_the_one_that_comes_along(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = triplets(tmp_path / "data")
    monkeypatch.setenv("CIR_EMBEDDER_PRETRAINED", "no-such-weights")
    data = ["--dataset", "garments", "--root", root, "--out", root / "features", "-q"]
    hint = "--model cir-small --pretrained shipped"
    assert hint in fail(capsys, "features", "extract", *data)
    assert hint not in fail(capsys, "features", "extract", *data, "--pretrained", "none-either")


def test_work_that_ctrl_c_ends_says_how_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cir_cli.run_train.run_train", interrupted)
    monkeypatch.setattr("cir_cli.run_features.run_extract", interrupted)
    monkeypatch.setattr("combiner_training.datasets.load.available_splits", interrupted)
    data = ["--dataset", "triplets", "--root", str(tmp_path), "--out", str(tmp_path)]
    train = ["train", *data, "--features", str(tmp_path)]
    for arguments, advice in (
        (train, "; run it again: nothing is saved so far"),
        (["features", "extract", *data], "; run it again: what is done is kept"),
        (["garments", "make", str(tmp_path / "g")], ""),
    ):
        monkeypatch.setattr("garments.catalog.make_catalog", interrupted)
        assert run(arguments) == 130
        assert capsys.readouterr().err.splitlines()[-1] == f"cir: interrupted{advice}"
    (tmp_path / "state.safetensors").touch()
    assert run(train) == 130
    assert "go on with --resume" in capsys.readouterr().err
