"""Any data set as a triplet manifest, read back by the loader of triplets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from combiner_service.dataset_choice import Dataset, load_splits
from combiner_service.datasets.cirr import load_cirr
from combiner_service.datasets.manifest import manifest_rows
from combiner_service.datasets.split import DatasetError, Query, Split
from combiner_service.datasets.triplets import load_triplets
from tests.combiner_service.datasets.layouts import real, write_cirr


def written(splits: Sequence[Split], folder: Path) -> Path:
    file = folder / "triplets.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in manifest_rows(splits, folder)))
    return file


def test_queries_groups_and_gallery_come_back_by_their_places(tmp_path: Path) -> None:
    split = load_cirr(write_cirr(tmp_path, "train"), "train")
    back = load_triplets(written([split], tmp_path), "train")
    assert back.gallery == tuple(f"train/{place}.png" for place in ("0/d", "1/a", "2/b", "3/c"))
    assert back.queries[0] == Query(
        "7",
        "train/1/a.png",
        ("one dog only",),
        ("train/2/b.png",),
        ("train/1/a.png", "train/2/b.png", "train/3/c.png"),
    )
    assert set(back.paths.values()) == set(split.paths.values())


def test_several_splits_share_a_manifest(tmp_path: Path) -> None:
    splits = [load_cirr(write_cirr(tmp_path, name), name) for name in ("train", "test1")]
    file = written(splits, tmp_path)
    assert [query.id for query in load_triplets(file, "train").queries] == ["train/7", "train/9"]
    assert [query.targets for query in load_triplets(file, "test1").queries] == [(), ()]


def test_a_picture_outside_the_folder_is_told(tmp_path: Path) -> None:
    split = load_cirr(write_cirr(tmp_path, "train"), "train")
    with pytest.raises(DatasetError, match="write the manifest to a folder that has all images"):
        list(manifest_rows([split], tmp_path / "elsewhere"))


@pytest.mark.parametrize(("kind", "queries", "images"), [("fashioniq", 6016, 15415), ("cirr", 4181, 2297)])
def test_the_real_annotation_survives(tmp_path: Path, kind: str, queries: int, images: int) -> None:
    folder = real(kind)
    splits = load_splits(Dataset(kind), folder, "val")
    rows = list(manifest_rows(splits, folder))
    assert sum("reference" in row for row in rows) == queries
    assert len({row["image"] for row in rows if "image" in row}) == images
