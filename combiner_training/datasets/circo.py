"""CIRCO (Baldrati et al., ICCV 2023) in its published folder layout, over COCO's unlabeled images of 2017."""

from __future__ import annotations

from pathlib import Path

from combiner_training.datasets.base import (
    DatasetError,
    Query,
    Split,
    as_list,
    as_name,
    as_object,
    as_text,
    as_whole_number,
    field,
    read_json,
    unique,
)

NAME = "circo"
SPLITS = ("val", "test")
ANNOTATIONS = "annotations"
_IMAGES = Path("COCO2017_unlabeled", "unlabeled2017")
_LISTED = Path("COCO2017_unlabeled", "annotations", "image_info_unlabeled2017.json")


def image_name(image_id: int) -> str:
    """Return the name of an image: its number in COCO in twelve digits, as its file is called."""
    return f"{image_id:012d}"


def load_circo(root: Path, split: str) -> Split:
    """Load one split of CIRCO, named as the split is.

    `root` has `annotations/SPLIT.json`, `COCO2017_unlabeled/annotations/image_info_unlabeled2017.json` and
    `COCO2017_unlabeled/unlabeled2017/`. A query's targets are all its ground truths, the one it was written
    for first; test has none. The gallery is all 123,403 images of COCO's list, in its order.

    Raises:
        DatasetError: Files are missing, or an entry cannot be used.
    """
    if split not in SPLITS:
        raise DatasetError(f"CIRCO has no split {split!r}; expected one of {', '.join(SPLITS)}")
    listed = root / _LISTED
    entries = as_list(field(as_object(read_json(listed), str(listed)), "images", str(listed)), str(listed))
    paths: dict[str, Path] = {}
    for number, entry in enumerate(entries, start=1):
        where = f"{listed}, image {number}"
        image = as_object(entry, where)
        name = image_name(as_whole_number(field(image, "id", where), f"{where}, id"))
        if name in paths:
            raise DatasetError(f"{where} has the id of an image before it")
        paths[name] = root / _IMAGES / as_name(field(image, "file_name", where), f"{where}, file_name")
    annotation = root / ANNOTATIONS / f"{split}.json"
    queries = tuple(
        _query(entry, f"{annotation}, entry {number}", split)
        for number, entry in enumerate(as_list(read_json(annotation), str(annotation)), start=1)
    )
    unique([query.id for query in queries], f"{annotation}, ids")
    for query in queries:
        for name in (query.reference, *query.targets):
            if name not in paths:
                raise DatasetError(
                    f"{annotation}, query {query.id}: the image {int(name)} is not in {listed.name}; "
                    "expected COCO's list of its unlabeled images of 2017"
                )
    return Split(NAME, split, queries, tuple(paths), paths)


def _query(entry: object, where: str, split: str) -> Query:
    query = as_object(entry, where)
    number = as_whole_number(field(query, "id", where), f"{where}, id")
    reference = as_whole_number(field(query, "reference_img_id", where), f"{where}, reference_img_id")
    text = as_text(field(query, "relative_caption", where), f"{where}, relative_caption")
    targets: tuple[str, ...] = ()
    if split != "test" or "gt_img_ids" in query:
        right = as_list(field(query, "gt_img_ids", where), f"{where}, gt_img_ids")
        if not right:
            raise DatasetError(f"{where}, gt_img_ids is empty; expected at least one image")
        names = [image_name(as_whole_number(one, f"{where}, gt_img_ids")) for one in right]
        targets = unique(names, f"{where}, gt_img_ids")
    return Query(str(number), image_name(reference), (text,), targets)
