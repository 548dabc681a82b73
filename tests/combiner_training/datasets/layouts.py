"""Small data sets in the official layouts, and where the real annotation is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

_REAL = Path(__file__).parents[4] / "shared" / "data"


def real(name: str) -> Path:
    """The folder with a data set's real annotation; skips the test where it is not there."""
    folder = _REAL / name
    if not folder.is_dir():
        pytest.skip(f"the annotation of {name} is not on this machine")
    return folder


def write_json(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_image(path: Path, colour: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)
    return path


def write_fashioniq(root: Path, *, category: str = "dress", split: str = "val") -> Path:
    """Two queries, one with an empty caption, and a gallery of four; no images."""
    write_json(
        root / "captions" / f"cap.{category}.{split}.json",
        [
            {"target": "B2", "candidate": "B1", "captions": ["is red", ""]},
            {"target": "B3", "candidate": "B1", "captions": [" longer. ", "has dots"]},
        ],
    )
    write_json(root / "image_splits" / f"split.{category}.{split}.json", ["B4", "B1", "B2", "B3"])
    return root


def cirr_pair(pair_id: int, reference: str, target: str | None) -> dict[str, Any]:
    pair: dict[str, Any] = {
        "pairid": pair_id,
        "reference": reference,
        "caption": "one dog only",
        "img_set": {"id": 1, "members": ["a", "b", "c"], "reference_rank": 0},
    }
    if target is not None:
        pair |= {"target_hard": target, "target_soft": {target: 1.0}}
    return pair


def write_cirr(root: Path, split: str = "val") -> Path:
    """Two queries over four images; no images."""
    targets = (None, None) if split == "test1" else ("b", "c")
    pairs = [cirr_pair(7, "a", targets[0]), cirr_pair(9, "b", targets[1])]
    write_json(root / "captions" / f"cap.rc2.{split}.json", pairs)
    places = {name: f"./{split}/{number}/{name}.png" for number, name in enumerate("dabc")}
    write_json(root / "image_splits" / f"split.rc2.{split}.json", places)
    return root


def circo_query(number: int, reference: int, right: list[int] | None) -> dict[str, Any]:
    query: dict[str, Any] = {
        "id": number,
        "reference_img_id": reference,
        "relative_caption": "is darker",
        "shared_concept": "a lamp",
    }
    if right is not None:
        query |= {"target_img_id": right[0], "gt_img_ids": right, "semantic_aspects": []}
    return query


def write_circo(root: Path, split: str = "val") -> Path:
    """Two queries over a list of four; no images."""
    right: list[list[int] | None] = [None, None] if split == "test" else [[20, 30], [30]]
    queries = [circo_query(0, 10, right[0]), circo_query(1, 20, right[1])]
    write_json(root / "annotations" / f"{split}.json", queries)
    images = [{"id": number, "file_name": f"{number:012d}.jpg"} for number in (30, 10, 20, 99)]
    listed = root / "COCO2017_unlabeled" / "annotations" / "image_info_unlabeled2017.json"
    write_json(listed, {"images": images})
    return root


def genecis_sample(task: str, reference: int, target: int, others: tuple[int, ...]) -> dict[str, Any]:
    def image(number: int) -> dict[str, Any]:
        if task.endswith("object"):
            return {"val_image_id": number}
        return {"image_id": number, "instance_bbox": [10 * number, 20, 30, 40]}

    return {
        "condition": "wall",
        "reference": image(reference),
        "target": image(target),
        "gallery": [image(each) for each in others],
    }


def write_genecis(root: Path, task: str) -> Path:
    """Two queries over four images, in the authors' folder; no images."""
    samples = [genecis_sample(task, 1, 2, (3, 4)), genecis_sample(task, 2, 3, (1, 4))]
    write_json(root / "genecis" / f"{task}.json", samples)
    return root
