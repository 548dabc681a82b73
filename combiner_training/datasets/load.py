"""Splits of every data set, listed and loaded in one way."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from combiner_training.datasets import circo, cirr, fashioniq, genecis
from combiner_training.datasets.base import DatasetError, Dialogue, Split, find_folder
from combiner_training.datasets.circo import load_circo
from combiner_training.datasets.cirr import load_cirr
from combiner_training.datasets.fashioniq import load_fashioniq
from combiner_training.datasets.genecis import annotation_folder, load_genecis
from combiner_training.datasets.triplets import (
    DIALOGUES_FILE,
    load_dialogues,
    load_triplets,
    splits_in,
)
from combiner_training.options import OptionError


class Dataset(StrEnum):
    """Layouts that are read."""

    FASHIONIQ = "fashioniq"
    CIRR = "cirr"
    CIRCO = "circo"
    GENECIS = "genecis"
    TRIPLETS = "triplets"
    GARMENTS = "garments"
    """Triplets of drawn garments, as `cir garments make` writes them."""


_TRIPLETS = (Dataset.TRIPLETS, Dataset.GARMENTS)


def load_splits(
    dataset: Dataset, root: Path, split: str | None, *, categories: Sequence[str] = ()
) -> tuple[Split, ...]:
    """Load the parts of a split: FashionIQ's categories, one part otherwise.

    `root` is the folder; for triplets their manifest, or the folder that has it as `triplets.jsonl`. Split
    None takes all its rows; a split that the manifest has in parts only (dress/val, shirt/val) is
    these parts. For GeneCIS None takes every task that is there.

    Raises:
        OptionError: Categories of a data set that has none.
        DatasetError: Files are missing, or an entry cannot be used.
    """
    if categories and dataset is not Dataset.FASHIONIQ:
        raise OptionError(f"{dataset} has no categories; leave the category out")
    if dataset in _TRIPLETS:
        parts = _parts_of(root, split) if split is not None else ()
        return tuple(load_triplets(root, part) for part in parts or (split,))
    if dataset is Dataset.GENECIS and split is None:
        return tuple(load_genecis(root, task) for task in available_splits(dataset, root) if task)
    if split is None:
        raise DatasetError(f"{dataset} needs the name of a split")
    if dataset is Dataset.CIRR:
        return (load_cirr(root, split),)
    if dataset is Dataset.CIRCO:
        return (load_circo(root, split),)
    if dataset is Dataset.GENECIS:
        return (load_genecis(root, split),)
    return tuple(load_fashioniq(root, category, split) for category in categories or fashioniq.CATEGORIES)


def _parts_of(root: Path, split: str) -> tuple[str, ...]:
    names = splits_in(root)
    return () if split in names else tuple(name for name in names if name.endswith(f"/{split}"))


def own_dialogues(dataset: Dataset, root: Path, splits: Sequence[str]) -> tuple[Dialogue, ...]:
    """Load the dialogues of these splits that garments have next to their triplets, if there are any.

    Those of all splits where none is named.

    Raises:
        DatasetError: A row cannot be used.
    """
    path = (root if root.is_dir() else root.parent) / DIALOGUES_FILE
    if dataset is not Dataset.GARMENTS or not path.exists():
        return ()
    return tuple(
        dialogue for split in splits or (None,) for dialogue in load_dialogues(path, split, required=False)
    )


def available_splits(dataset: Dataset, root: Path) -> tuple[str | None, ...]:
    """The splits whose annotation is there: what is taken where none is named."""
    if dataset in _TRIPLETS:
        return (None,)
    names: tuple[str, ...]
    below: tuple[str, ...]
    if dataset is Dataset.CIRCO:
        return _files_of(root / circo.ANNOTATIONS, circo.SPLITS, dataset)
    if dataset is Dataset.GENECIS:
        return _files_of(annotation_folder(root), genecis.TASKS, dataset)
    if dataset is Dataset.CIRR:
        names, pattern, below = cirr.SPLITS, "cap.rc2.{}.json", cirr.BELOW
    else:
        names, pattern, below = fashioniq.SPLITS, "cap.*.{}.json", fashioniq.BELOW
    captions = find_folder(root, dataset, below) / "captions"
    found = tuple(name for name in names if any(captions.glob(pattern.format(name))))
    if not found:
        raise DatasetError(f"{captions} has no annotation of {dataset}; expected {pattern.format(names[0])}")
    return found


def splits_without_captions(dataset: Dataset, root: Path) -> tuple[str, ...]:
    """Return the splits of CIRR and FashionIQ that have a list of images and no captions."""
    if dataset not in (Dataset.CIRR, Dataset.FASHIONIQ):
        return ()
    module = cirr if dataset is Dataset.CIRR else fashioniq
    between = "rc2" if dataset is Dataset.CIRR else "*"
    folder = find_folder(root, dataset, module.BELOW)
    return tuple(
        name
        for name in module.SPLITS
        if any((folder / "image_splits").glob(f"split.{between}.{name}.json"))
        and not any((folder / "captions").glob(f"cap.{between}.{name}.json"))
    )


def _files_of(folder: Path, names: Sequence[str], dataset: Dataset) -> tuple[str, ...]:
    found = tuple(name for name in names if (folder / f"{name}.json").is_file())
    if not found:
        raise DatasetError(f"{folder} has no annotation of {dataset}; expected {names[0]}.json")
    return found
