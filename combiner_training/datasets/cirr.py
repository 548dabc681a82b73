"""CIRR, release rc2, in its official folder layout and in that of CLIP4Cir."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

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
    find_folder,
    in_order,
    read_json,
    unique,
)

NAME = "cirr"
SPLITS = ("train", "val", "test1")
#: Where the annotation lies below a root with more than it: CLIP4Cir's `cirr_dataset`, or what holds that.
BELOW = ("cirr", "cirr_dataset/cirr")
# Where the images are; the authors' folder has them next to the annotation or below this one.
_IMAGES = "img_raw"


def load_cirr(root: Path, split: str) -> Split:
    """Load one split of CIRR, named as the split is.

    `root` has `captions/cap.rc2.SPLIT.json` and `image_splits/split.rc2.SPLIT.json`, or a folder of `BELOW`
    has them. The latter says where each image is (train in sub-folders): relative to the folder of the
    annotation, to `img_raw` below it where that is there, or, as in CLIP4Cir's layout, to the folder above.
    A query's id is its pair id, its one target the annotation's `target_hard` (test1 has none), its group the
    subset of six with the reference. The gallery is all images of the split: 2,297 in val, 2,315 in test1.

    Raises:
        DatasetError: Files are missing, or an entry cannot be used.
    """
    if split not in SPLITS:
        raise DatasetError(f"CIRR has no split {split!r}; expected one of {', '.join(SPLITS)}")
    root = find_folder(root, "CIRR", BELOW)
    listed = root / "image_splits" / f"split.rc2.{split}.json"
    places = {
        as_name(name, f"{listed}, key"): as_name(place, f"{listed}, key {name!r}")
        for name, place in as_object(read_json(listed), str(listed)).items()
    }
    images = _image_folder(root, {PurePosixPath(place).parts[0] for place in places.values()})
    paths = {name: images / place for name, place in places.items()}
    captions = root / "captions" / f"cap.rc2.{split}.json"
    queries = tuple(
        _query(entry, f"{captions}, entry {number}", split)
        for number, entry in enumerate(as_list(read_json(captions), str(captions)), start=1)
    )
    unique([query.id for query in queries], f"{captions}, pair ids")
    for query in queries:
        for name in (query.reference, *query.targets, *query.group):
            if name not in paths:
                raise DatasetError(
                    f"{captions}, pair {query.id}: the image {name!r} is not in {listed.name}; "
                    "expected files of one release"
                )
    return Split(NAME, split, queries, in_order(paths), paths)


def _image_folder(root: Path, first_parts: Iterable[str]) -> Path:
    """Return the folder that places are relative to; `first_parts` are the folders that they begin with."""
    if (root / _IMAGES).is_dir():
        return root / _IMAGES
    wanted = sorted(first_parts)
    above = root.parent if root.name else root.absolute().parent
    found = (folder for folder in (root, above) if any((folder / name).exists() for name in wanted))
    return next(found, root)


def _query(entry: object, where: str, split: str) -> Query:
    pair = as_object(entry, where)
    reference = as_name(field(pair, "reference", where), f"{where}, reference")
    text = as_text(field(pair, "caption", where), f"{where}, caption")
    subset = as_object(field(pair, "img_set", where), f"{where}, img_set")
    members = as_list(field(subset, "members", f"{where}, img_set"), f"{where}, img_set, members")
    group = unique([as_name(name, f"{where}, img_set, members") for name in members], f"{where}, members")
    if reference not in group:
        raise DatasetError(f"{where}: the reference {reference!r} is not a member of its own subset")
    targets: tuple[str, ...] = ()
    if split != "test1" or "target_hard" in pair:
        targets = (as_name(field(pair, "target_hard", where), f"{where}, target_hard"),)
    pair_id = as_whole_number(field(pair, "pairid", where), f"{where}, pairid")
    return Query(str(pair_id), reference, (text,), targets, group)
