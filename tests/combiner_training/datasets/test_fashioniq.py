"""FashionIQ: the layout, the two galleries, and what is wrong with a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from combiner_training.datasets.base import DatasetError, Query
from combiner_training.datasets.fashioniq import CATEGORIES, Gallery, load_fashioniq
from combiner_training.datasets.load import Dataset, available_splits
from tests.combiner_training.datasets.layouts import real, write_fashioniq, write_image, write_json


def test_a_split_has_raw_captions_and_expects_png_files(tmp_path: Path) -> None:
    split = load_fashioniq(write_fashioniq(tmp_path), "dress", "val")
    assert (split.dataset, split.name) == ("fashioniq", "dress/val")
    assert split.queries == (
        Query("dress/val/1", "B1", ("is red", ""), ("B2",)),
        Query("dress/val/2", "B1", (" longer. ", "has dots"), ("B3",)),
    )
    assert split.gallery == ("B4", "B1", "B2", "B3")
    assert dict(split.paths) == {name: tmp_path / "images" / f"{name}.png" for name in split.gallery}


def test_the_val_gallery_is_references_and_targets_alone(tmp_path: Path) -> None:
    split = load_fashioniq(write_fashioniq(tmp_path), "dress", "val", gallery="val")
    assert split.gallery == ("B1", "B2", "B3")
    assert split.paths.keys() == {"B1", "B2", "B3"}


def test_an_image_that_is_a_jpeg_is_found(tmp_path: Path) -> None:
    write_fashioniq(tmp_path)
    jpeg = write_image(tmp_path / "images" / "B2.jpg")
    write_image(tmp_path / "images" / "B3.jpg")
    png = write_image(tmp_path / "images" / "B3.png")
    paths = load_fashioniq(tmp_path, "dress", "val").paths
    assert (paths["B2"], paths["B3"]) == (jpeg, png)


def test_other_endings_in_any_letter_case_are_found_and_companions_are_not(tmp_path: Path) -> None:
    write_fashioniq(tmp_path)
    upper = write_image(tmp_path / "images" / "B2.PNG")
    webp = write_image(tmp_path / "images" / "B3.webp")
    (tmp_path / "images" / "B1.txt").write_text("no image")
    (tmp_path / "images" / "._B1.jpg").write_bytes(b"x")
    paths = load_fashioniq(tmp_path, "dress", "val").paths
    assert (paths["B2"], paths["B3"]) == (upper, webp)
    assert paths["B1"] == tmp_path / "images" / "B1.png"


def test_the_folder_of_clip4cirs_project_is_read(tmp_path: Path) -> None:
    write_fashioniq(tmp_path / "fashionIQ_dataset")
    image = write_image(tmp_path / "fashionIQ_dataset" / "images" / "B1.png")
    assert available_splits(Dataset.FASHIONIQ, tmp_path) == ("val",)
    assert load_fashioniq(tmp_path, "dress", "val").paths["B1"] == image


def test_targets_that_are_not_in_the_split_file_still_have_a_path(tmp_path: Path) -> None:
    write_fashioniq(tmp_path)
    write_json(tmp_path / "image_splits" / "split.dress.val.json", ["B1"])
    split = load_fashioniq(tmp_path, "dress", "val")
    assert split.gallery == ("B1",)
    assert split.paths.keys() == {"B1", "B2", "B3"}


def test_withheld_targets_are_empty_and_make_no_val_gallery(tmp_path: Path) -> None:
    write_fashioniq(tmp_path, split="test")
    captions = tmp_path / "captions" / "cap.dress.test.json"
    write_json(captions, [{"candidate": "B1", "captions": ["a", "b"]}])
    assert load_fashioniq(tmp_path, "dress", "test").queries[0].targets == ()
    with pytest.raises(DatasetError, match=r"cap\.dress\.test\.json has no targets.*'original'"):
        load_fashioniq(tmp_path, "dress", "test", gallery="val")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("captions/cap.dress.val.json", "[{", r"cap\.dress\.val\.json is not JSON: .*line 1"),
        ("captions/cap.dress.val.json", "{}", r"cap\.dress\.val\.json is a JSON object; expected an array"),
        ("captions/cap.dress.val.json", "[1]", "entry 1 is a JSON number; expected an object"),
        ("captions/cap.dress.val.json", '[{"captions": ["a", "b"]}]', "entry 1 has no field 'candidate'"),
        ("captions/cap.dress.val.json", '[{"candidate": "B1", "captions": ["a", "b"]}]', "no field 'target'"),
        (
            "captions/cap.dress.val.json",
            '[{"candidate": "B1", "target": "B2", "captions": ["a"]}]',
            "entry 1 has 1 captions; expected 2",
        ),
        (
            "captions/cap.dress.val.json",
            '[{"candidate": "../B1", "target": "B2", "captions": ["a", "b"]}]',
            r"entry 1, candidate is '\.\./B1', which is not a usable image name",
        ),
        ("captions/cap.dress.val.json", '[{"target": 1, "target": 2}]', "has the key 'target' twice"),
        ("captions/cap.dress.val.json", b"\xff", "is not UTF-8: byte 0"),
        ("image_splits/split.dress.val.json", '["B1", "B2", "B1"]', "has 'B1' a second time as entry 3"),
        ("image_splits/split.dress.val.json", '["/etc/B1"]', "entry 1 is '/etc/B1'"),
        ("image_splits/split.dress.val.json", '["B1", null]', "entry 2 is a JSON null; expected a string"),
    ],
)
def test_broken_annotation_is_told_with_file_and_entry(
    tmp_path: Path, file: str, content: str | bytes, message: str
) -> None:
    write_fashioniq(tmp_path)
    (tmp_path / file).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DatasetError, match=message) as told:
        load_fashioniq(tmp_path, "dress", "val")
    assert str(tmp_path / file) in str(told.value)


def test_wrong_folders_categories_and_splits_are_told(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match="does not exist or is not a folder; expected the FashionIQ folder"
    ):
        load_fashioniq(tmp_path / "nowhere", "dress", "val")
    with pytest.raises(DatasetError, match="has no folder 'captions'; expected the FashionIQ layout"):
        load_fashioniq(tmp_path, "dress", "val")
    write_fashioniq(tmp_path)
    with pytest.raises(DatasetError, match=r"cap\.shirt\.val\.json does not exist"):
        load_fashioniq(tmp_path, "shirt", "val")
    with pytest.raises(DatasetError, match="no category 'hat'; expected one of dress, shirt, toptee"):
        load_fashioniq(tmp_path, "hat", "val")
    with pytest.raises(DatasetError, match="no split 'dev'"):
        load_fashioniq(tmp_path, "dress", "dev")


@pytest.mark.slow
def test_the_real_annotation_has_its_published_counts() -> None:
    root = real("fashioniq")
    triplets = {
        split: sum(len(load_fashioniq(root, category, split).queries) for category in CATEGORIES)
        for split in ("train", "val", "test")
    }
    assert triplets == {"train": 18_000, "val": 6_016, "test": 6_118}


@pytest.mark.parametrize(
    ("gallery", "counts"), [("original", (3_817, 6_346, 5_373)), ("val", (2_628, 3_089, 2_902))]
)
def test_the_real_galleries_have_their_published_sizes(gallery: Gallery, counts: tuple[int, ...]) -> None:
    root = real("fashioniq")
    splits = [load_fashioniq(root, category, "val", gallery=gallery) for category in CATEGORIES]
    assert tuple(len(split.gallery) for split in splits) == counts
    for split in splits:
        assert all(set(query.targets) <= set(split.gallery) for query in split.queries)


def test_nothing_of_the_real_annotation_is_changed() -> None:
    root = real("fashioniq")
    entries: list[dict[str, Any]] = json.loads((root / "captions/cap.toptee.val.json").read_text())
    queries = load_fashioniq(root, "toptee", "val").queries
    assert [(e["candidate"], tuple(e["captions"]), (e["target"],)) for e in entries] == [
        (query.reference, query.texts, query.targets) for query in queries
    ]
    assert sum(not text for query in queries for text in query.texts) == 2
