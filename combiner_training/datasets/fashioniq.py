"""FashionIQ in its official folder layout: captions, image_splits and images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from cir.member_names import reason_for_file
from combiner_training.datasets.base import (
    DatasetError,
    Query,
    Split,
    as_list,
    as_name,
    as_object,
    as_text,
    field,
    find_folder,
    in_order,
    read_json,
    unique,
)

NAME = "fashioniq"
CATEGORIES = ("dress", "shirt", "toptee")
SPLITS = ("train", "val", "test")
Gallery = Literal["original", "val"]

#: Where the annotation lies when the root is the folder of CLIP4Cir's project.
BELOW = ("fashionIQ_dataset",)
_CAPTIONS = 2
# The authors' lists lead to JPEG files of the shop; the common copies of the data set are PNG. Other endings
# come after these.
_ENDINGS = (".png", ".jpg", ".jpeg")


def load_fashioniq(root: Path, category: str, split: str, *, gallery: Gallery = "original") -> Split:
    """Load one category and split of FashionIQ, named "CATEGORY/SPLIT".

    `root` has `captions/cap.CATEGORY.SPLIT.json`, `image_splits/split.CATEGORY.SPLIT.json` and
    `images/NAME.png` (or .jpg, or another ending of an image; without any, the .png is expected). Each query
    has its two captions as they were written, of which some are empty. The test split has no targets.

    The gallery is the protocol: "original" takes all names of the split's file (dress 3,817, shirt 6,346,
    toptee 5,373 in val), "val" only references and targets of the split's queries (2,628, 3,089, 2,902),
    which gives higher recalls.

    Raises:
        DatasetError: Files are missing, or an entry cannot be used.
    """
    if category not in CATEGORIES:
        raise DatasetError(f"FashionIQ has no category {category!r}; expected one of {', '.join(CATEGORIES)}")
    if split not in SPLITS:
        raise DatasetError(f"FashionIQ has no split {split!r}; expected one of {', '.join(SPLITS)}")
    if gallery not in ("original", "val"):
        raise DatasetError(f"FashionIQ has no gallery {gallery!r}; expected original or val")
    root = find_folder(root, "FashionIQ", BELOW)
    captions = root / "captions" / f"cap.{category}.{split}.json"
    queries = tuple(
        _query(entry, f"{captions}, entry {number}", f"{category}/{split}/{number}", split)
        for number, entry in enumerate(as_list(read_json(captions), str(captions)), start=1)
    )
    listed = root / "image_splits" / f"split.{category}.{split}.json"
    of_split = unique(
        [
            as_name(name, f"{listed}, entry {number}")
            for number, name in enumerate(as_list(read_json(listed), str(listed)), start=1)
        ],
        str(listed),
    )
    named = in_order(name for query in queries for name in (query.reference, *query.targets))
    if gallery == "val":
        if queries and not any(query.targets for query in queries):
            raise DatasetError(
                f"{captions} has no targets, and the gallery 'val' is made of references and targets; "
                "take the gallery 'original'"
            )
        of_split = named
    files = _files(root / "images")
    paths = {name: files.get(name, root / "images" / f"{name}.png") for name in in_order((*of_split, *named))}
    return Split(NAME, f"{category}/{split}", queries, of_split, paths)


def _query(entry: object, where: str, query_id: str, split: str) -> Query:
    triplet = as_object(entry, where)
    reference = as_name(field(triplet, "candidate", where), f"{where}, candidate")
    texts = as_list(field(triplet, "captions", where), f"{where}, captions")
    if len(texts) != _CAPTIONS:
        raise DatasetError(f"{where} has {len(texts)} captions; expected {_CAPTIONS}")
    targets: tuple[str, ...] = ()
    if split != "test" or "target" in triplet:
        targets = (as_name(field(triplet, "target", where), f"{where}, target"),)
    return Query(query_id, reference, tuple(as_text(text, f"{where}, captions") for text in texts), targets)


def _files(folder: Path) -> Mapping[str, Path]:
    """Find the image of each name in a folder; one look at the folder in place of one at each name."""
    found: dict[str, tuple[int, str]] = {}
    if folder.is_dir():
        for path in folder.iterdir():
            stem, ending = os.path.splitext(path.name)
            if reason_for_file(path.name) is None:
                lowered = ending.lower()
                worth = _ENDINGS.index(lowered) if lowered in _ENDINGS else len(_ENDINGS)
                found[stem] = min(found.get(stem, (worth, path.name)), (worth, path.name))
    return {stem: folder / name for stem, (_, name) in found.items()}
