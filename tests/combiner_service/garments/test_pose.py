"""Poses: always within the picture, as large as the kind is."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from combiner_service.garments.attributes import KINDS, combinations
from combiner_service.garments.drawing.kinds import shape_of
from combiner_service.garments.drawing.shape import Fill
from combiner_service.garments.pose import posed
from combiner_service.garments.raster import rasterised

SIZES = ((384, 512), (96, 128), (48, 64))


@given(
    st.sampled_from(KINDS).flatmap(lambda kind: st.sampled_from(combinations(kind))),
    st.sampled_from(SIZES),
    st.integers(0, 2**32),
)
def test_a_garment_lies_wholly_within_the_picture(
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
