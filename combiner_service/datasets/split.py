"""What every loader makes: the queries of a split and the gallery they are answered from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class DatasetError(ValueError):
    """What is wrong with a data set's folder or file: names the file and the line or entry."""


@dataclass(frozen=True, slots=True)
class Query:
    """One composed query of a split.

    `id` is unique in its split. `reference`, `targets` and `group` are image names. `texts` are the raw
    captions, at least one, an empty string where the annotation's is empty. `targets` holds every right
    answer and is empty where the answers are withheld, as in CIRR's test1. `group` is CIRR's subset with
    the reference, else empty.
    """

    id: str
    reference: str
    texts: tuple[str, ...]
    targets: tuple[str, ...] = ()
    group: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Split:
    """One split of a data set.

    `name` is like "val" or "dress/val". `gallery` holds unique names in the order of the annotation. `paths`
    has the expected file of every image that queries or gallery name, whether or not it exists.
    """

    dataset: str
    name: str
    queries: tuple[Query, ...]
    gallery: tuple[str, ...]
    paths: Mapping[str, Path]
