"""GeneCIS: galleries of their own, images that are cut out, and what is wrong with a file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from combiner_training.datasets.base import DatasetError, Query
from combiner_training.datasets.crops import cut_out
from combiner_training.datasets.genecis import TASKS, load_genecis
from combiner_training.datasets.load import Dataset, available_splits, load_splits
from tests.combiner_training.datasets.layouts import genecis_sample, write_genecis, write_json


def test_a_task_of_objects_has_whole_images_and_galleries_of_its_queries(tmp_path: Path) -> None:
    split = load_genecis(write_genecis(tmp_path, "focus_object"), "focus_object")
    one, two, three, four = (f"{number:012d}" for number in (1, 2, 3, 4))
    assert split.queries == (
        Query("0", one, ("wall",), (two,), (two, three, four)),
        Query("1", two, ("wall",), (three,), (three, one, four)),
    )
    assert split.gallery == (two, three, four, one)
    assert split.paths[one] == tmp_path / "val2017" / f"{one}.jpg"
    assert split.crops == {}
    assert available_splits(Dataset.GENECIS, tmp_path) == ("focus_object",)


def test_every_task_that_is_there_is_a_part(tmp_path: Path) -> None:
    for task in TASKS[1:]:
        write_genecis(tmp_path, task)
    assert tuple(part.name for part in load_splits(Dataset.GENECIS, tmp_path, None)) == TASKS[1:]


def test_a_task_of_attributes_has_images_that_are_cut_out(tmp_path: Path) -> None:
    split = load_genecis(write_genecis(tmp_path, "change_attribute"), "change_attribute")
    name = "1-10-20-30-40"
    assert split.queries[0].reference == name
    assert split.paths[name] == tmp_path / "VG_100K_all" / "1.jpg"
    assert split.crops[name] == (10, 20, 30, 40)
    assert set(split.crops) == set(split.paths)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": {"val_image_id": 2}}, "entry 1: the reference is in its own gallery"),
        ({"target": {}}, "entry 1, target has no field 'val_image_id'"),
        ({"target": {"val_image_id": -2}}, "val_image_id is -2; expected a whole number"),
        ({"condition": None}, "condition is a JSON null; expected a string"),
    ],
)
def test_broken_samples_are_told(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_json(tmp_path / "focus_object.json", [genecis_sample("focus_object", 1, 2, (3, 4)) | changes])
    with pytest.raises(DatasetError, match=message):
        load_genecis(tmp_path, "focus_object")


@pytest.mark.parametrize("box", [[1, 2, 3], [1, 2, 0, 4], [1, 2, "3", 4], [1, -2, 3, 4]])
def test_broken_boxes_are_told(tmp_path: Path, box: list[Any]) -> None:
    sample = genecis_sample("focus_attribute", 1, 2, (3,))
    sample["reference"]["instance_bbox"] = box
    write_json(tmp_path / "focus_attribute.json", [sample])
    with pytest.raises(DatasetError, match=r"entry 1, reference, instance_bbox is .*; expected"):
        load_genecis(tmp_path, "focus_attribute")


def test_unknown_tasks_are_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"no task 'val'; expected one of {', '.join(TASKS)}"):
        load_genecis(tmp_path, "val")


def encoded(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def test_a_part_is_the_box_with_its_margin_on_a_black_square() -> None:
    image = Image.new("RGB", (100, 60), "white")
    image.paste("red", (40, 20, 60, 30))
    part = Image.open(io.BytesIO(cut_out(encoded(image), (40, 20, 20, 10))))
    # Left 40 - 14, top 20 - 7, 34 wide and 17 high, on a square of 34.
    assert part.size == (34, 34)
    pixels = np.asarray(part)
    assert (pixels[:8] == 0).all()
    assert (pixels[-9:] == 0).all()
    red = np.argwhere((pixels == (255, 0, 0)).all(axis=2))
    assert red.min(axis=0).tolist() == [8 + 7, 14]
    assert len(red) == 20 * 10


def test_boxes_outside_and_images_that_are_none_are_told() -> None:
    with pytest.raises(ValueError, match="is outside the image of 8 x 8 pixels"):
        cut_out(encoded(Image.new("RGB", (8, 8))), (50, 2, 4, 4))
    with pytest.raises(ValueError, match="cannot be read"):
        cut_out(b"no image", (1, 1, 4, 4))
