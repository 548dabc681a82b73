"""CIRR, release rc2, in its official folder layout: captions, captions_ext, image_splits and images."""

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
    check_folders,
    field,
    in_order,
    read_json,
    unique,
)

NAME = "cirr"
SPLITS = ("train", "val", "test1")
# Where the images are; the authors' folder has them next to the annotation or below this one.
_IMAGES = "img_raw"


def load_cirr(root: Path, split: str) -> Split:
    """Load one split of CIRR, named as the split is.

    `root` has `captions/cap.rc2.SPLIT.json` and `image_splits/split.rc2.SPLIT.json`, which says where each
    image is (train in sub-folders), relative to `root` or, where there is one, to `root/img_raw`. A query's
    id is its pair id, its one target the annotation's `target_hard` (test1 has none), its group the subset
    of six with the reference. The gallery is all images of the split: 2,297 in val, 2,315 in test1.

    Raises:
        DatasetError: Files are missing, or an entry cannot be used.
    """
    if split not in SPLITS:
        raise DatasetError(f"CIRR has no split {split!r}; expected one of {', '.join(SPLITS)}")
    check_folders(root, ("captions", "image_splits"), "CIRR")
    listed = root / "image_splits" / f"split.rc2.{split}.json"
    images = root / _IMAGES if (root / _IMAGES).is_dir() else root
    paths = {
        as_name(name, f"{listed}, key"): images / as_name(place, f"{listed}, key {name!r}")
        for name, place in as_object(read_json(listed), str(listed)).items()
    }
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
    return Query(_pair_id(pair, where), reference, (text,), targets, group)


def _pair_id(pair: dict[str, object], where: str) -> str:
    pair_id = field(pair, "pairid", where)
    if not isinstance(pair_id, int) or isinstance(pair_id, bool):
        raise DatasetError(f"{where}, pairid is {pair_id!r}; expected a whole number")
    return str(pair_id)
