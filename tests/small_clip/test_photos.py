"""Photos: those that are kept out of the training, and the colour that is computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cir.images.decode import Decoder
from embedder_service.images.preprocess import Preprocessor
from garments.cloth import CLOTH
from scripts.small_clip.photos import colour_of, is_kept_out, read_photos

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "clothing"


def test_a_fifth_is_kept_out_by_name_alone() -> None:
    kept = [is_kept_out(f"picture-{number}") for number in range(5000)]
    assert 900 < sum(kept) < 1100
    assert kept == [is_kept_out(f"picture-{number}") for number in range(5000)]


@pytest.mark.parametrize("colour", sorted(CLOTH))
def test_the_middle_has_the_say(colour: str) -> None:
    other = "green" if colour != "green" else "pink"
    pixels = np.full((40, 40, 3), CLOTH[other], np.uint8)
    pixels[8:32, 8:32] = CLOTH[colour]
    assert colour_of(pixels) == colour


def test_no_colour_is_named_where_none_has_most() -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    for column in range(40):
        pixels[:, column] = list(CLOTH.values())[column // 2 % len(CLOTH)]
    assert colour_of(pixels) == ""


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the clothing photos are not here")
def test_both_sides_together_are_all_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (PHOTOS / "images.csv").read_text().splitlines()[1:]
    kept = [row.split(",")[0] for row in rows if is_kept_out(row.split(",")[0])]
    assert 0.17 < len(kept) / len(rows) < 0.23
    photo = next(read_photos(PHOTOS, Preprocessor(size=32), Decoder(), kept_out=True))
    assert photo.pixels.shape == (32, 32, 3)
