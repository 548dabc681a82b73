"""From a manifest or a catalog to a served Combiner, by the command alone."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cir.composers import ADAPTED_TO
from cir_cli.adapt import NOT_BETTER
from cir_cli.adapt_handover import combiner_in_use, find_place
from cir_cli.errors import Failure
from cir_cli.main import run
from combiner_service.checkpoint import inspect_checkpoint
from combiner_service.settings import SHIPPED_CHECKPOINTS
from combiner_training.feature_file import open_folder, paths_of, read_table
from combiner_training.train import BEGUN_WITH
from garments.catalog import make_catalog
from vector_store.edge import folder_url
from vector_store.open_store import open_store
from vector_store.types import PointBatch, VersionSpec

pytestmark = [pytest.mark.torch, pytest.mark.slow]

SHORT = ["--epochs", "2", "--most-triplets", "600", "--device", "cpu", "--quiet"]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("garments") / "shop"
    return make_catalog(folder, size=300, seed=3, image_size=(96, 128)).manifest


@pytest.fixture(scope="module")
def adapted(manifest: Path) -> Path:
    """The data directory of a run that beat `image`, and of nothing else."""
    data = manifest.parent.parent / "data"
    code = run(["adapt", str(manifest), "--name", "shop", "--data", str(data), "--in-use", "image", *SHORT])
    assert code == 0
    return data


def report_of(data: Path, name: str = "shop") -> dict[str, Any]:
    document: dict[str, Any] = json.loads((data / "adapt" / name / "report.json").read_text())
    return document


def test_a_better_combiner_is_served_with_its_origin(adapted: Path, manifest: Path) -> None:
    report = report_of(adapted)
    served = inspect_checkpoint(adapted / "combiners" / "shop.safetensors").metadata

    assert report["handed_over"]
    assert report["difference_in_recall@1"]["better"]
    assert report["in_use"] == "image"
    assert served.model_fingerprint == report["model_fingerprint"]
    assert served.extra[ADAPTED_TO] == str(manifest)
    assert served.extra["better_than"] == "image"
    assert report["begun_with"] == ""
    assert BEGUN_WITH not in served.extra


def test_the_report_has_every_baseline_decision_and_picture(adapted: Path) -> None:
    folder = adapted / "adapt" / "shop"
    report, text = report_of(adapted), (folder / "report.md").read_text()
    names = [row["combiner"] for row in report["comparison"]["rows"]]

    assert {"image", "text", "sum", "slerp", "best_slerp", "weighted_sum", "unit_sum"} < set(names)
    assert names[-1] == "new"
    assert {one["name"]: one["role"] for one in report["columns"]} == {
        "kind": "attribute",
        "colour": "attribute",
        "pattern": "attribute",
        "length": "attribute",
        "neckline": "attribute",
        "sleeve": "attribute",
        "caption": "left out",
        "price": "left out",
        "split": "left out",
    }
    assert report["verdict"] in text
    compared = {row["combiner"]: row for row in report["comparison"]["rows"]}
    old, new = (100 * compared[name]["recall@5"] for name in (report["in_use"], "new"))
    assert f"; R@5 {old:.1f} to {new:.1f}, R@10 " in report["verdict"]
    for name in ("comparison.png", "wins.png", "learning_curve.png"):
        with Image.open(folder / name) as image:
            assert image.width > 300
    rows = [json.loads(line) for line in (folder / "triplets.jsonl").read_text().splitlines()]
    assert {row["split"] for row in rows} == {"train", "val", "test"}


def test_what_is_no_better_is_not_served(
    adapted: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served = adapted / "combiners" / "shop.safetensors"
    before = served.read_bytes()
    command = ["adapt", str(manifest), "--name", "shop", "--data", str(adapted), "--out", str(tmp_path)]
    shipped = str(SHIPPED_CHECKPOINTS / "garments.safetensors")
    code = run([*command, "--from-scratch", "--in-use", shipped, *SHORT])

    assert code == NOT_BETTER
    assert "Nothing was handed over" in capsys.readouterr().err
    assert served.read_bytes() == before


async def _fill(url: str, features: Path, rows: dict[str, dict[str, Any]], folder: Path) -> None:
    table = read_table(paths_of(features)[0])
    names = list(table.header.names)
    spec = VersionSpec(
        table.header.dimension,
        table.header.model_fingerprint,
        model={"architecture": "cir-small", "pretrained": "shipped"},
        image_folders=(str(folder),),
    )
    async with open_store(url) as store:
        writer = await store.create_version("boutique", spec)
        payloads = [
            {key: value for key, value in rows[name].items() if key not in ("id", "image")} for name in names
        ]
        images = [str(folder / rows[name]["image"]) for name in names]
        await writer.upsert(PointBatch(names, table.take(np.arange(len(names))), payloads, images))
        info = await writer.finish()
        await store.publish("boutique", info.version)


@pytest.fixture(scope="module")
def store(adapted: Path, manifest: Path) -> str:
    url = folder_url(adapted / "store")
    rows = {row["id"]: row for row in map(json.loads, manifest.read_text().splitlines())}
    asyncio.run(_fill(url, adapted / "adapt" / "shop" / "features", rows, manifest.parent))
    return url


def test_a_catalog_gives_its_features_and_learns_from_clicks(
    store: str, adapted: Path, tmp_path: Path
) -> None:
    names = read_table(paths_of(adapted / "adapt" / "shop" / "features")[0]).header.names
    clicks = tmp_path / "clicks.jsonl"
    rows = [{"reference": names[at], "text": "warmer", "clicked": names[at + 1]} for at in range(50)]
    clicks.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {**rows[0], "clicked": "gone"}]))
    command = ["adapt", "boutique", "--data", str(adapted), "--force", *SHORT, "--clicks", str(clicks)]
    assert run([*command, "--title", "caption"]) == 0

    report = report_of(adapted, "boutique")
    assert report["items"] == 300
    assert report["clicks"]["with unknown ids"] == 1
    assert report["clicks"]["rows"] == 51
    assert [one["role"] for one in report["columns"]] == ["title"]
    served = inspect_checkpoint(adapted / "combiners" / "boutique.safetensors").metadata
    assert served.extra[BEGUN_WITH] == report["begun_with"]
    assert report["begun_with"].startswith("garments.safetensors (SHA-256 ")


def test_a_run_that_was_interrupted_is_resumed(adapted: Path, manifest: Path) -> None:
    folder = adapted / "adapt" / "shop"
    resumed = adapted / "adapt" / "again"
    shutil.copytree(folder, resumed)
    (resumed / "report.json").unlink()
    before = (resumed / "training" / "metrics.jsonl").read_text()
    command = ["adapt", str(manifest), "--name", "again", "--data", str(adapted), "--in-use", "image", *SHORT]
    assert run(command) == 0

    assert (resumed / "training" / "metrics.jsonl").read_text() == before


def test_two_models_are_refused(
    store: str, adapted: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = ["--model", "cir-small", "--pretrained", "random:1", "--out", str(tmp_path / "out")]
    assert run(["adapt", "boutique", "--data", str(adapted), *SHORT, *other]) == 1
    assert "one model must make both" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "none"),
        (["none.csv"], "none.csv does not exist"),
        (["boutique", "--columns", "brand"], "no column 'brand'"),
        (["boutique", "--name", "a/b"], "cannot name a Combiner"),
        (["boutique", "--in-use", "nobody"], "neither a combiner"),
        (["boutique", "--phrasings", "none.json"], "none.json cannot be read"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    store: str,
    adapted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    before = sorted((adapted / "combiners").iterdir())
    command = ["adapt", *arguments, "--data", str(adapted), "--out", str(tmp_path), *SHORT]
    assert run(command) == 1

    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert sorted((adapted / "combiners").iterdir()) == before


def test_a_checkpoint_that_was_put_there_by_hand_is_not_overwritten(adapted: Path, tmp_path: Path) -> None:
    served = adapted / "combiners" / "shop.safetensors"
    by_hand = tmp_path / "shop.safetensors"
    shutil.copy(adapted / "adapt" / "shop" / "training" / "best.safetensors", by_hand)
    with pytest.raises(Failure, match="was put there by hand and is not overwritten"):
        find_place(tmp_path, "shop", "shop")
    shutil.copy(served, by_hand)
    with pytest.raises(Failure, match="was made for the catalog"):
        find_place(tmp_path, "shop", "another")
    by_hand.write_bytes(b"no checkpoint")
    with pytest.raises(Failure, match="cannot be read"):
        find_place(tmp_path, "shop", "shop")


def test_a_shipped_combiner_is_begun_with_whether_it_is_named_or_found(adapted: Path, tmp_path: Path) -> None:
    features = open_folder(adapted / "adapt" / "shop" / "features")
    place = find_place(tmp_path, "shop", "shop")
    shipped = SHIPPED_CHECKPOINTS / "garments.safetensors"
    for choice in ("", "combiner/garments", str(shipped)):
        assert combiner_in_use(choice, place, features).file == shipped
    assert combiner_in_use("image", place, features).file is None
