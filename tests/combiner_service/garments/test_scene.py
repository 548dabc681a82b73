"""Grounds, shadows and light."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from PIL import Image

from combiner_service.garments.attributes import COLOURS
from combiner_service.garments.colours import palette_of
from combiner_service.garments.scene import COARSE, background, cast_shadow, light, photographed

SIZE = (96, 128)


@pytest.mark.parametrize("colour", COLOURS)
def test_grounds_stand_out_from_the_cloth(colour: str) -> None:
    rng = random.Random(colour)
    for _ in range(40):
        cloth = palette_of(colour, rng).cloth
        ground = np.asarray(background(SIZE, cloth, rng)).astype(float)
        assert ground.shape == (128, 96, 3)
        away = np.linalg.norm(ground - cloth, axis=2)
        assert np.quantile(away, 0.25) > 35


def test_a_shadow_darkens_the_ground_where_the_garment_is_and_nowhere_far_away() -> None:
    ground = Image.new("RGB", (384, 512), (200, 200, 200))
    coarse = Image.new("L", (10, 10), 255)
    shadowed = np.asarray(cast_shadow(ground, coarse, (0, 0), random.Random(1)))
    assert shadowed[: 5 * COARSE, : 5 * COARSE].mean() < 160
    assert shadowed[300:, 200:].min() == 200


def test_light_never_brightens_and_leaves_most() -> None:
    white = Image.new("RGB", SIZE, (255, 255, 255))
    for seed in range(20):
        lit = np.asarray(light(white, random.Random(seed)))
        assert 170 < lit.mean() <= 255


def test_a_photo_is_a_jpeg_with_grain() -> None:
    flat = Image.new("RGB", (700, 800), (120, 120, 120))
    with Image.open(io.BytesIO(photographed(flat, random.Random(3)))) as photo:
        assert photo.format == "JPEG"
        values = np.asarray(photo).astype(float)
    assert abs(values.mean() - 120) < 2
    assert values.std() > 0.3
