"""Images of garments: the seed decides all, and the attributes can be seen."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from garments.render import SIZE, render
from garments.vocabulary import COLOURS, KINDS, VALUES, combinations, names_of

HOODIE = {"kind": "hoodie", "colour": "red", "pattern": "striped"}
SMALL = (96, 128)


def pixels(attributes: dict[str, str], seed: int, size: tuple[int, int] = SMALL) -> NDArray[np.int64]:
    with Image.open(io.BytesIO(render(attributes, seed=seed, size=size))) as picture:
        assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", size)
        return np.asarray(picture).astype(np.int64)


@pytest.mark.service
def test_a_seed_draws_the_same_bytes_in_another_process() -> None:
    code = (
        "import hashlib; from garments.render import render; "
        f"print(hashlib.sha256(render({HOODIE!r}, seed=5)).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == hashlib.sha256(render(HOODIE, seed=5)).hexdigest()
    assert render(HOODIE, seed=5) != render(HOODIE, seed=6)


def test_images_are_three_to_four_and_of_any_size() -> None:
    assert SIZE[0] * 4 == SIZE[1] * 3
    for size in (SIZE, SMALL, (48, 64), (200, 200)):
        pixels(HOODIE, 1, size)


@pytest.mark.parametrize("kind", KINDS)
def test_each_attribute_of_each_kind_can_be_seen(kind: str) -> None:
    first = combinations(kind)[0]
    before = pixels(first, 3)
    for name in names_of(kind)[1:]:
        for value in set(VALUES[name]) - {first[name]}:
            changed = np.abs(pixels({**first, name: value}, 3) - before).max(axis=2) > 40
            assert changed.mean() > 0.01, (kind, name, value)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_garment_has_its_colour(colour: str) -> None:
    # Saturated colours by their hue, the others by their brightness, over the middle of several images.
    hues = {
        "red": 355, "orange": 27, "yellow": 48, "green": 133, "turquoise": 179, "blue": 223, "purple": 277,
        "pink": 335, "brown": 24,
    }  # fmt: skip
    for seed in range(4):
        garment = {"kind": "hoodie", "colour": colour, "pattern": "plain"}
        middle = Image.fromarray(pixels(garment, seed)[55:90, 36:60].astype(np.uint8)).convert("HSV")
        hue, saturation, value = (np.asarray(band).astype(float) for band in middle.split())
        if colour in hues:
            away = np.abs((hue * 360 / 255 - hues[colour] + 180) % 360 - 180)
            assert np.median(away) < 14
            assert np.median(saturation) > 60
        else:
            low, high = {"black": (0, 75), "grey": (75, 160), "white": (165, 256)}[colour]
            assert low <= np.median(value) < high
            assert np.median(saturation) < 60


def test_nuisance_varies_more_than_the_garment() -> None:
    pictures = [pixels(HOODIE, seed) for seed in range(6)]
    corners = {tuple(picture[2, 2] // 8) for picture in pictures}
    assert len(corners) >= 4
