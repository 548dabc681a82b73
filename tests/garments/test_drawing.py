"""Parts of an image: pose, pattern, ground, shadow, light and grain."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from garments.augment import COARSE, background, cast_shadow, light, photographed
from garments.cloth import palette_of, pattern_of, turned
from garments.drawing import shape_of
from garments.drawing.shape import Fill
from garments.render import posed, rasterised
from garments.vocabulary import COLOURS, KINDS, PATTERNS, combinations

SIZES = ((384, 512), (96, 128), (48, 64))


@given(
    st.sampled_from(KINDS).flatmap(lambda kind: st.sampled_from(combinations(kind))),
    st.sampled_from(SIZES),
    st.integers(0, 2**32),
)
def test_a_garment_lies_wholly_within_the_image(
    garment: dict[str, str], size: tuple[int, int], seed: int
) -> None:
    rng = random.Random(seed)
    pose = posed(shape_of(garment, rng), size, rng)
    points = np.concatenate([part.outline for part in pose.shape.parts])
    assert points.min() >= 0
    assert points.min() < 1 + 1e-6
    assert ((points.max(axis=0) + pose.corner) <= size).all()
    assert min(pose.corner) >= 0
    # Seen from near enough to be recognised.
    assert (np.ptp(points, axis=0) / size).max() > 0.4


@pytest.mark.parametrize("kind", KINDS)
def test_every_place_of_a_garment_has_one_fill(kind: str) -> None:
    rng = random.Random(1)
    for garment in combinations(kind)[:: max(1, len(combinations(kind)) // 6)]:
        layers = rasterised(posed(shape_of(garment, rng), (192, 256), rng).shape)
        total = np.sum([np.asarray(mask).astype(int) for mask in layers.fills.values()], axis=0)
        whole = np.asarray(layers.whole).astype(int)
        # Edges between two fills are rounded.
        assert np.abs(total - whole).max() <= 4 * len(layers.fills)
        assert Fill.CLOTH in layers.fills
        assert (np.asarray(layers.dark)[whole == 0] <= 120).all()


SIZE = (384, 512)
BOX = (0, 0, *SIZE)


def test_plain_cloth_has_no_pattern() -> None:
    assert pattern_of("plain", SIZE, random.Random(1)) is None


@pytest.mark.parametrize("name", PATTERNS[1:])
@pytest.mark.parametrize("degrees", [0.0, -30.0, 75.0])
def test_marks_cover_the_whole_box_evenly_and_leave_the_colour_most_of_the_cloth(
    name: str, degrees: float
) -> None:
    for seed in range(6):
        pattern = pattern_of(name, SIZE, random.Random(seed))
        assert pattern is not None
        marks = np.asarray(turned(pattern, degrees, BOX)[0]) / 255
        assert marks.shape == (512, 384)
        assert 0.1 < marks.mean() < 0.55
        quarters = [part.mean() for half in np.split(marks, 2) for part in np.split(half, 2, axis=1)]
        assert max(quarters) - min(quarters) < 0.1


def test_a_turn_turns_the_marks() -> None:
    pattern = pattern_of("striped", SIZE, random.Random(1))
    assert pattern is not None
    straight, upright = (np.asarray(turned(pattern, degrees, BOX)[0]) for degrees in (0.0, 90.0))
    assert straight.std(axis=1).max() == 0
    assert upright.std(axis=0).max() == 0
    assert np.asarray(turned(pattern, 0.0, (10, 10, 40, 50))[0]).shape == (40, 30)


SMALL_SIZE = (96, 128)


@pytest.mark.parametrize("colour", COLOURS)
def test_grounds_stand_out_from_the_cloth(colour: str) -> None:
    rng = random.Random(colour)
    for _ in range(40):
        cloth = palette_of(colour, rng).cloth
        ground = np.asarray(background(SMALL_SIZE, cloth, rng)).astype(float)
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
    white = Image.new("RGB", SMALL_SIZE, (255, 255, 255))
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
