"""GeneCIS (Vaze et al., CVPR 2023): four tasks, whose queries have galleries of their own."""

from __future__ import annotations

from pathlib import Path

from combiner_training.datasets.base import (
    Box,
    DatasetError,
    Query,
    Split,
    as_list,
    as_number,
    as_object,
    as_text,
    as_whole_number,
    field,
    in_order,
    read_json,
)

NAME = "genecis"
TASKS = ("focus_attribute", "change_attribute", "focus_object", "change_object")
"""The tasks, which stand for splits."""
BELOW = "genecis"
_COCO, _VISUAL_GENOME = "val2017", "VG_100K_all"


def load_genecis(root: Path, task: str) -> Split:
    """Load one task, named as the task is.

    `root` has `TASK.json`, itself or in a folder `genecis`, and the images: `val2017/` (COCO, tasks of
    objects) and `VG_100K_all/` (Visual Genome, tasks of attributes, whose images are cut out as the authors
    do, see crops.py). A query's group is its own gallery of ten to fifteen images with the target; results
    are recalls in the group. The split's gallery is the images of all groups.

    Raises:
        DatasetError: Files are missing, or an entry cannot be used.
    """
    if task not in TASKS:
        raise DatasetError(f"GeneCIS has no task {task!r}; expected one of {', '.join(TASKS)}")
    path = annotation_folder(root) / f"{task}.json"
    paths: dict[str, Path] = {}
    crops: dict[str, Box] = {}

    def name_of(value: object, where: str) -> str:
        image = as_object(value, where)
        if task.endswith("object"):
            number = as_whole_number(field(image, "val_image_id", where), f"{where}, val_image_id")
            name = f"{number:012d}"
            paths[name] = root / _COCO / f"{name}.jpg"
            return name
        number = as_whole_number(field(image, "image_id", where), f"{where}, image_id")
        box = _box(field(image, "instance_bbox", where), f"{where}, instance_bbox")
        name = "-".join([str(number), *(f"{side:g}" for side in box)])
        paths[name] = root / _VISUAL_GENOME / f"{number}.jpg"
        crops[name] = box
        return name

    queries: list[Query] = []
    for number, entry in enumerate(as_list(read_json(path), str(path)), start=1):
        where = f"{path}, entry {number}"
        sample = as_object(entry, where)
        reference = name_of(field(sample, "reference", where), f"{where}, reference")
        target = name_of(field(sample, "target", where), f"{where}, target")
        others = [
            name_of(one, f"{where}, gallery")
            for one in as_list(field(sample, "gallery", where), f"{where}, gallery")
        ]
        text = as_text(field(sample, "condition", where), f"{where}, condition")
        group = in_order((target, *others))
        if reference in group:
            raise DatasetError(f"{where}: the reference is in its own gallery")
        queries.append(Query(str(number - 1), reference, (text,), (target,), group))
    gallery = in_order(name for query in queries for name in query.group)
    return Split(NAME, task, tuple(queries), gallery, paths, crops)


def annotation_folder(root: Path) -> Path:
    """Return the folder of the tasks' files: `root`, or `genecis` in it."""
    return root / BELOW if (root / BELOW).is_dir() else root


def _box(value: object, where: str) -> Box:
    numbers = [as_number(each, where) for each in as_list(value, where)]
    if len(numbers) != 4 or min(numbers) < 0 or min(numbers[2:]) <= 0:
        raise DatasetError(f"{where} is {numbers}; expected left, top, width and height")
    left, top, width, height = numbers
    return left, top, width, height
