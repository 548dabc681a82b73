"""Drawn garments on disk: drawn once, read many times."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from embedder_service.images.preprocess import Preprocessor
from garments.augment import Size
from garments.catalog import sample
from garments.render import SIZE
from garments.vocabulary import SplitName

# Small images are drawn many times faster than those of a catalog, and a few large ones keep both alike.
_SIZES: Mapping[Size, float] = {(105, 140): 0.60, (144, 192): 0.25, (192, 256): 0.12, SIZE: 0.03}


@dataclass(frozen=True, slots=True)
class Drawn:
    """Pixels uint8 (n, size, size, 3), memory-mapped; captions and attributes of each."""

    pixels: npt.NDArray[np.uint8]
    captions: Sequence[Sequence[str]]
    attributes: Sequence[Mapping[str, str]]


def draw(
    stem: Path,
    count: int,
    preprocessor: Preprocessor,
    *,
    seed: int,
    split: SplitName,
    full_size: bool,
    processes: int,
) -> Drawn:
    """Draw `count` samples of a split into STEM.npy and STEM.jsonl, unless they are there, and read them."""
    pixels, told = stem.with_suffix(".npy"), stem.with_suffix(".jsonl")
    if not told.exists():
        stem.parent.mkdir(parents=True, exist_ok=True)
        partial_told = told.with_suffix(".partial")
        side = preprocessor.size
        out = np.lib.format.open_memmap(pixels, mode="w+", dtype=np.uint8, shape=(count, side, side, 3))
        one = partial(_drawn, preprocessor=preprocessor, seed=seed, split=split, full_size=full_size)
        with get_context("spawn").Pool(processes) as pool, partial_told.open("w") as file:
            for number, (image, line) in enumerate(pool.imap(one, range(count), chunksize=32)):
                out[number] = image
                file.write(line + "\n")
        out.flush()
        partial_told.replace(told)
    rows = [json.loads(line) for line in told.read_text().splitlines()]
    return Drawn(np.load(pixels, mmap_mode="r"), [row[0] for row in rows], [row[1] for row in rows])


def _drawn(
    number: int, *, preprocessor: Preprocessor, seed: int, split: SplitName, full_size: bool
) -> tuple[npt.NDArray[np.uint8], str]:
    rng = random.Random(f"{seed}/{number}")  # sizes, not secrets
    size = SIZE if full_size else rng.choices(list(_SIZES), list(_SIZES.values()))[0]
    made = sample(number, seed=seed, split=split, size=size)
    pixels = preprocessor(Image.fromarray(made.image))
    return pixels, json.dumps([made.captions, dict(made.attributes)])
