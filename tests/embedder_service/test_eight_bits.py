"""Deep greyscale keeps its picture, and transparency its ground."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from embedder_service.eight_bits import flatten, to_eight_bits

RAMP = np.linspace(0, 1, 256, dtype=np.float64).reshape(16, 16)


@pytest.mark.parametrize(
    "levels",
    [
        (RAMP * 65_535).astype(np.uint16),
        (RAMP * 65_535).astype(np.int32),
        RAMP.astype(np.float32),
        (RAMP * 255).astype(np.float32),
        (RAMP * 65_535).astype(np.float32),
    ],
    ids=["16 bits", "32 bits", "floating point to 1", "to 255", "to 65535"],
)
def test_the_whole_range_is_kept(levels: np.ndarray) -> None:
    scaled = to_eight_bits(Image.fromarray(levels))
    assert scaled.mode == "L"
    assert np.abs(np.asarray(scaled).astype(int) - RAMP * 255).max() <= 1


def test_small_levels_in_a_wide_type_are_eight_bits_already() -> None:
    picture = Image.fromarray((RAMP * 255).astype(np.int32))
    assert to_eight_bits(picture) is picture


def test_levels_out_of_range_are_clipped() -> None:
    wide = Image.fromarray(np.array([[-5, 70_000, 65_535]], np.int32))
    assert np.asarray(to_eight_bits(wide)).tolist() == [[0, 255, 255]]
    odd = Image.fromarray(np.array([[np.nan, -np.inf, np.inf, 2.0e5]], np.float32))
    assert np.asarray(to_eight_bits(odd)).tolist() == [[0, 0, 255, 255]]


def test_a_picture_of_eight_bits_is_left_alone() -> None:
    picture = Image.new("RGB", (3, 3))
    assert to_eight_bits(picture) is picture
    assert flatten(picture, (1, 2, 3)) is picture


def test_half_transparent_pixels_are_mixed_with_the_ground() -> None:
    picture = Image.new("RGBA", (2, 2), (0, 0, 0, 128))
    assert flatten(picture, (255, 255, 255)).getpixel((0, 0)) == pytest.approx((127, 127, 127), abs=1)
