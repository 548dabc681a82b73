"""CIRR: pairs, groups, images in sub-folders, and what is wrong with a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from combiner_training.datasets.base import DatasetError, Query
from combiner_training.datasets.cirr import load_cirr
from combiner_training.datasets.load import Dataset, available_splits, load_splits
from tests.combiner_training.datasets.layouts import cirr_pair, real, write_cirr, write_image, write_json


def test_a_split_has_groups_and_the_images_places(tmp_path: Path) -> None:
    split = load_cirr(write_cirr(tmp_path, "train"), "train")
    assert (split.dataset, split.name) == ("cirr", "train")
    assert split.queries == (
        Query("7", "a", ("one dog only",), ("b",), ("a", "b", "c")),
        Query("9", "b", ("one dog only",), ("c",), ("a", "b", "c")),
    )
    assert split.gallery == ("d", "a", "b", "c")
    assert split.paths["a"] == tmp_path / "train/1/a.png"


def test_images_below_img_raw_are_found_there(tmp_path: Path) -> None:
    (write_cirr(tmp_path) / "img_raw").mkdir()
    assert load_cirr(tmp_path, "val").paths["d"] == tmp_path / "img_raw/val/0/d.png"


@pytest.mark.parametrize("root", ["cirr_dataset", "cirr_dataset/cirr", "."])
@pytest.mark.parametrize("split", ["train", "val", "test1"])
def test_the_layout_of_clip4cir_is_read_from_every_root(tmp_path: Path, split: str, root: str) -> None:
    write_cirr(tmp_path / "cirr_dataset" / "cirr", split)
    image = write_image(tmp_path / "cirr_dataset" / split / "0" / "d.png")
    assert available_splits(Dataset.CIRR, tmp_path / root) == (split,)
    (loaded,) = load_splits(Dataset.CIRR, tmp_path / root, split)
    assert loaded.paths["d"].samefile(image)
    assert {path.parents[1] for path in loaded.paths.values()} == {loaded.paths["d"].parents[1]}


def test_the_annotations_folder_may_be_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_image(tmp_path / "val" / "0" / "d.png")
    monkeypatch.chdir(write_cirr(tmp_path / "cirr"))
    assert load_cirr(Path(), "val").paths["d"].samefile(image)


def test_images_next_to_the_annotation_go_before_those_above(tmp_path: Path) -> None:
    write_image(tmp_path / "val" / "0" / "d.png")
    root = write_cirr(tmp_path / "cirr")
    own = write_image(root / "val" / "0" / "d.png")
    assert load_cirr(root, "val").paths["d"] == own


def test_test1_has_no_targets(tmp_path: Path) -> None:
    queries = load_cirr(write_cirr(tmp_path, "test1"), "test1").queries
    assert [query.targets for query in queries] == [(), ()]
    assert queries[0].group == ("a", "b", "c")


def _with(**changes: Any) -> list[dict[str, Any]]:
    return [cirr_pair(7, "a", "b") | changes]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (_with(reference="x"), r"entry 1: the reference 'x' is not a member of its own subset"),
        (_with(target_hard="x"), r"pair 7: the image 'x' is not in split\.rc2\.val\.json"),
        (_with(target_hard="../b"), "entry 1, target_hard is '../b'"),
        (_with(pairid="7"), "entry 1, pairid is '7'; expected a whole number"),
        (_with(caption=None), "entry 1, caption is a JSON null; expected a string"),
        (_with(img_set={"id": 1}), "entry 1, img_set has no field 'members'"),
        (_with(img_set={"members": ["a", "b", "a"]}), "members has 'a' a second time"),
        ([cirr_pair(7, "a", "b"), cirr_pair(7, "b", "c")], "pair ids has '7' a second time as entry 2"),
        ([cirr_pair(7, "a", None)], "entry 1 has no field 'target_hard'"),
    ],
)
def test_broken_pairs_are_told_with_file_and_entry(tmp_path: Path, pairs: object, message: str) -> None:
    captions = write_json(write_cirr(tmp_path) / "captions" / "cap.rc2.val.json", pairs)
    with pytest.raises(DatasetError, match=message) as told:
        load_cirr(tmp_path, "val")
    assert str(captions) in str(told.value)


def test_places_outside_the_folder_and_names_that_come_twice_are_told(tmp_path: Path) -> None:
    listed = write_json(write_cirr(tmp_path) / "image_splits/split.rc2.val.json", {"a": "./../a.png"})
    with pytest.raises(DatasetError, match=r"key 'a' is '\./\.\./a\.png'"):
        load_cirr(tmp_path, "val")
    listed.write_text('{"a": "./a.png", "a": "./b.png"}')
    with pytest.raises(DatasetError, match="has the key 'a' twice"):
        load_cirr(tmp_path, "val")


def test_wrong_folders_and_splits_are_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no split 'test'; expected one of train, val, test1"):
        load_cirr(tmp_path, "test")
    with pytest.raises(DatasetError, match="has no folder 'captions'; expected the CIRR layout"):
        load_cirr(tmp_path, "val")
    write_cirr(tmp_path)
    with pytest.raises(DatasetError, match=r"split\.rc2\.train\.json does not exist"):
        load_cirr(tmp_path, "train")


@pytest.mark.parametrize(("split", "queries", "images"), [("val", 4_181, 2_297), ("test1", 4_148, 2_315)])
def test_the_real_annotation_has_its_published_counts(split: str, queries: int, images: int) -> None:
    loaded = load_cirr(real("cirr"), split)
    assert (len(loaded.queries), len(loaded.gallery)) == (queries, images)
    assert {len(query.group) for query in loaded.queries} == {6}
    assert {len(query.targets) for query in loaded.queries} == {0 if split == "test1" else 1}


def test_nothing_of_the_real_annotation_is_changed() -> None:
    root = real("cirr")
    pairs: list[dict[str, Any]] = json.loads((root / "captions/cap.rc2.val.json").read_text())
    queries = load_cirr(root, "val").queries
    assert [(str(p["pairid"]), p["reference"], (p["caption"],), (p["target_hard"],)) for p in pairs] == [
        (query.id, query.reference, query.texts, query.targets) for query in queries
    ]
