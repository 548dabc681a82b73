"""Real photos with their labels, and a colour that is computed from the image."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from cir.images.decode import Decoder
from embedder_service.images.preprocess import Preprocessor
from garments.cloth import CLOTH
from scripts.small_clip.labels import KIND_OF_LABEL

# Part of the photos, by a hash of the name, that is never trained on.
_KEPT_OUT_ONE_IN = 5
# The middle of the image, where the garment is.
_MIDDLE = 0.45
# Of the middle's pixels: with less of one colour none is named.
_ENOUGH = 0.45


@dataclass(frozen=True, slots=True)
class Photo:
    """Pixels, uint8 (size, size, 3), the kind of garment, and its colour, empty where none is clear."""

    pixels: npt.NDArray[np.uint8]
    kind: str
    colour: str


def is_kept_out(name: str) -> bool:
    """Return True when an image is for testing only."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _KEPT_OUT_ONE_IN == 0


def read_photos(
    folder: Path, preprocessor: Preprocessor, decoder: Decoder, *, kept_out: bool
) -> Iterator[Photo]:
    """Yield the photos of a folder (`images.csv` with image and label, `images/NAME.jpg`) of one side."""
    with (folder / "images.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["label"] in KIND_OF_LABEL and is_kept_out(row["image"]) is kept_out:
                image = decoder((folder / "images" / f"{row['image']}.jpg").read_bytes())
                pixels = preprocessor(image)
                yield Photo(pixels, KIND_OF_LABEL[row["label"]], colour_of(pixels))


def colour_of(pixels: npt.NDArray[np.uint8]) -> str:
    """Return the name of the prevailing colour of the image's middle; empty where none prevails."""
    side = len(pixels)
    edge = round(side * (1 - _MIDDLE) / 2)
    middle = pixels[edge : side - edge, edge : side - edge].reshape(-1, 3)
    names = list(CLOTH)
    distances = np.linalg.norm(
        _lab(middle)[:, None, :] - _lab(np.array(list(CLOTH.values()), np.uint8))[None], axis=-1
    )
    counts = np.bincount(distances.argmin(axis=1), minlength=len(names))
    best = int(counts.argmax())
    return names[best] if counts[best] >= _ENOUGH * len(middle) else ""


def _lab(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return CIE L*a*b* (n, 3), lightness at half weight: light falls differently on every cloth."""
    lab = np.asarray(_to_lab(rgb), np.float32).reshape(-1, 3)
    # Pillow stores a and b as signed bytes in unsigned ones.
    lab[:, 1:] = np.where(lab[:, 1:] > 127, lab[:, 1:] - 256, lab[:, 1:])
    return lab * np.array([100 / 255 * 0.5, 1, 1], np.float32)


def _to_lab(rgb: npt.NDArray[np.uint8]) -> Image.Image:
    from PIL import ImageCms

    image = Image.fromarray(rgb.reshape(-1, 1, 3), "RGB")
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
    assert converted is not None  # not in place
    return converted
