"""Catalogs on disk (images, a manifest that can be indexed, queries with answers), and samples in memory."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from combiner_training.datasets.triplets import DIALOGUES_FILE, TRIPLETS_FILE
from garments.augment import Size
from garments.items import Item, catalog_items, seed_of
from garments.language import caption, captions
from garments.queries import GarmentDialogue, Triplet, dialogues, gallery_of, triplets, wordings
from garments.render import SIZE, render
from garments.vocabulary import VALUES, Attributes, SplitName, names_of, split_of
from service_runtime.files import write_json_lines

LEAST_SIZE = 120
_SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
# Queries for each item of the catalog; dialogues there are none of in train.
_TRIPLETS: Mapping[SplitName, float] = {"train": 8.0, "val": 0.25, "test": 0.5}
_DIALOGUES: Mapping[SplitName, float] = {"val": 0.0625, "test": 0.125}
# Test queries that are asked in several wordings, for each item of the catalog.
_WORDED = 0.0625
WORDINGS_FILE = "wordings.jsonl"
_CHUNK = 16  # images that a worker takes at a time


class CatalogError(ValueError):
    """A catalog cannot be made as asked; the message says why."""


@dataclass(frozen=True, slots=True)
class CatalogResult:
    """The files of a catalog and how much is in them."""

    manifest: Path
    triplets: Path
    dialogues: Path
    wordings: Path
    counts: Mapping[str, int]


def make_catalog(
    folder: Path,
    *,
    size: int,
    seed: int,
    workers: int = 1,
    image_size: Size = SIZE,
    on_image: Callable[[int], None] = lambda done: None,
) -> CatalogResult:
    """Draw `size` garments into a folder and write what is known about them.

    `garments.jsonl` is a manifest for the indexer (id, image, attributes, split, price, caption),
    `triplets.jsonl` is read by `load_triplets`, `dialogues.jsonl` by `load_dialogues`; `wordings.jsonl`, test
    queries in several wordings each, is a manifest of triplets, too. Two runs with one size
    and seed write the same bytes, whatever the number of processes (`workers`) that draw. `image_size` is the
    width and height of an image; `on_image` is called with the number of images that are drawn.

    Raises:
        CatalogError: The size is below `LEAST_SIZE`, or the folder holds something else.
    """
    if size < LEAST_SIZE:
        raise CatalogError(
            f"a catalog of {size} garments is too small for queries; expected {LEAST_SIZE} at least"
        )
    _claim(folder, {"garments": size, "seed": seed, "picture": image_size})
    items = catalog_items(size, seed)
    (folder / "images").mkdir(exist_ok=True)
    draw = partial(_draw, folder, image_size)
    if workers > 1:
        # Spawned, not forked: the caller may have threads.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for done, _ in enumerate(pool.map(draw, items, chunksize=_CHUNK), start=1):
                on_image(done)
    else:
        for done, item in enumerate(items, start=1):
            draw(item)
            on_image(done)
    asked = {
        split: list(triplets(items, split, round(share * size), seed)) for split, share in _TRIPLETS.items()
    }
    talks = {
        split: list(dialogues(items, split, round(share * size), seed)) for split, share in _DIALOGUES.items()
    }
    worded = list(wordings(asked["test"], "test", round(_WORDED * size), seed))
    gallery = (
        {"image": item.image, "split": split} for split in _SPLITS for item in gallery_of(items, split)
    )
    same = (
        _triplet_row(f"wish-{number}-{letter}", "test", query)
        for number, queries_of_wish in enumerate(worded, start=1)
        for letter, query in zip("abcdefgh", queries_of_wish, strict=False)
    )
    queries = (
        _triplet_row(f"{split}-{number}", split, made)
        for split, rows in asked.items()
        for number, made in enumerate(rows, start=1)
    )
    conversations = (
        _dialogue_row(f"{split}-{number}", split, made)
        for split, rows in talks.items()
        for number, made in enumerate(rows, start=1)
    )
    counts = {"garments": len(items)}
    counts |= {f"{split}_triplets": len(rows) for split, rows in asked.items()}
    counts |= {f"{split}_dialogues": len(rows) for split, rows in talks.items()}
    counts |= {"test_wordings": sum(map(len, worded))}
    made = CatalogResult(
        folder / "garments.jsonl",
        folder / TRIPLETS_FILE,
        folder / DIALOGUES_FILE,
        folder / WORDINGS_FILE,
        counts,
    )
    write_json_lines(made.manifest, map(_item_row, items))
    write_json_lines(made.triplets, chain(gallery, queries))
    write_json_lines(made.dialogues, conversations)
    whole = ({"image": item.image, "split": "test"} for item in gallery_of(items, "test"))
    write_json_lines(made.wordings, chain(whole, same))
    return made


def _claim(folder: Path, catalog: Mapping[str, object]) -> None:
    """Mark the folder as that of this catalog, before anything is drawn into it."""
    mark = folder / "catalog.json"
    content = json.dumps(catalog) + "\n"
    if mark.is_file():
        if mark.read_text(encoding="utf-8") != content:
            raise CatalogError(f"{folder} holds another catalog, see {mark.name} there; give another folder")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CatalogError(f"{folder} is not empty and holds no catalog of garments; give another folder")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        mark.write_text(content, encoding="utf-8")


def _draw(folder: Path, image_size: Size, item: Item) -> None:
    (folder / item.image).write_bytes(render(item.attributes, seed=item.seed, size=image_size))


def _item_row(item: Item) -> dict[str, object]:
    return {
        "id": item.id,
        "image": item.image,
        **item.attributes,
        "split": split_of(item.attributes),
        "price": item.price,
        "caption": caption(item.attributes),
    }


def _triplet_row(query_id: str, split: SplitName, made: Triplet) -> dict[str, object]:
    return {
        "id": query_id,
        "split": split,
        "reference": made.reference.image,
        "text": made.text,
        "targets": [item.image for item in made.targets],
        "group": [item.image for item in (made.reference, made.targets[0], *made.hard_negatives)],
    }


def _dialogue_row(dialogue_id: str, split: SplitName, made: GarmentDialogue) -> dict[str, object]:
    turns = [{"text": turn.text, "targets": [item.image for item in turn.targets]} for turn in made.turns]
    return {"id": dialogue_id, "split": split, "reference": made.reference.image, "turns": turns}


@dataclass(frozen=True, slots=True)
class Sample:
    """An image, uint8 (height, width, 3) RGB, with captions, the plain one first, and its attributes."""

    image: NDArray[np.uint8]
    captions: tuple[str, ...]
    attributes: Attributes


def sample(number: int, *, seed: int, split: SplitName | None = "train", size: Size = SIZE) -> Sample:
    """The sample of that number, without limit: every kind, colour and pattern is equally likely.

    Workers need share nothing: each draws its own numbers. `split` chooses the combinations (None: all),
    `size` is width and height; an image is drawn in the time that its size takes, so that training on small
    ones is fast. The image has gone through JPEG, as photos have. No sample shares its seed with an item of
    a catalog.
    """
    own = seed_of("sample", seed, split, number)
    rng = random.Random(own)  # noqa: S311  # images, not secrets
    while True:
        attributes = {name: rng.choice(VALUES[name]) for name in VALUES}
        attributes = {name: attributes[name] for name in names_of(attributes["kind"])}
        if split is None or split_of(attributes) == split:
            break
    with Image.open(io.BytesIO(render(attributes, seed=own, size=size))) as file:
        image = np.asarray(file)
    return Sample(image, captions(attributes, rng), attributes)
