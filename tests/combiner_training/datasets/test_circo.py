"""CIRCO: all its ground truths, COCO's list as the gallery, and what is wrong with a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from combiner_training.datasets.base import DatasetError, Query
from combiner_training.datasets.circo import load_circo
from combiner_training.datasets.load import Dataset, available_splits, load_splits
from tests.combiner_training.datasets.layouts import circo_query, write_circo, write_json


def test_a_split_has_all_ground_truths_and_cocos_list_as_gallery(tmp_path: Path) -> None:
    [split] = load_splits(Dataset.CIRCO, write_circo(tmp_path), "val")
    assert (split.dataset, split.name) == ("circo", "val")
    names = [f"{number:012d}" for number in (30, 10, 20, 99)]
    assert split.queries == (
        Query("0", names[1], ("is darker",), (names[2], names[0])),
        Query("1", names[2], ("is darker",), (names[0],)),
    )
    assert split.gallery == tuple(names)
    assert split.paths[names[1]] == tmp_path / "COCO2017_unlabeled/unlabeled2017/000000000010.jpg"


def test_test_has_no_targets_and_splits_that_are_there_are_found(tmp_path: Path) -> None:
    write_circo(tmp_path, "test")
    assert [query.targets for query in load_circo(tmp_path, "test").queries] == [(), ()]
    assert available_splits(Dataset.CIRCO, tmp_path) == ("test",)
    write_circo(tmp_path, "val")
    assert available_splits(Dataset.CIRCO, tmp_path) == ("val", "test")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference_img_id": "10"}, "entry 1, reference_img_id is '10'; expected a whole number"),
        ({"reference_img_id": True}, "reference_img_id is True; expected a whole number"),
        ({"gt_img_ids": []}, "gt_img_ids is empty"),
        ({"gt_img_ids": [20, 20]}, "gt_img_ids has '000000000020' a second time"),
        ({"gt_img_ids": [21]}, "query 0: the image 21 is not in image_info_unlabeled2017"),
        ({"relative_caption": 3}, "relative_caption is a JSON number; expected a string"),
        ({"id": 1}, "ids has '1' a second time as entry 2"),
    ],
)
def test_broken_entries_are_told(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_circo(tmp_path)
    queries = [circo_query(0, 10, [20, 30]) | changes, circo_query(1, 20, [30])]
    write_json(tmp_path / "annotations" / "val.json", queries)
    with pytest.raises(DatasetError, match=message):
        load_circo(tmp_path, "val")


def test_wrong_folders_and_splits_are_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no split 'train'; expected one of val, test"):
        load_circo(tmp_path, "train")
    with pytest.raises(DatasetError, match=r"annotations has no annotation of circo; expected val\.json"):
        available_splits(Dataset.CIRCO, tmp_path)
    write_json(tmp_path / "annotations" / "val.json", [])
    with pytest.raises(DatasetError, match=r"image_info_unlabeled2017\.json does not exist"):
        load_circo(tmp_path, "val")
