"""Pictures stay pictures."""

from __future__ import annotations

import numpy as np
import torch

from scripts.small_clip.augment import augmented


def test_pictures_keep_their_size_range_and_colour() -> None:
    pixels = torch.zeros(6, 16, 16, 3, dtype=torch.uint8)
    pixels[..., 0] = 200
    reach = torch.tensor([0.1] * 3 + [0.45] * 3)
    values = augmented(pixels, reach, np.random.default_rng(1))
    assert values.shape == (6, 3, 16, 16)
    assert values.dtype == torch.float32
    assert values[:, 1:].max() < 1e-6
    assert 0.92 * 200 / 255 - 1e-3 <= values[:, 0].min() <= values[:, 0].max() <= 1.08 * 200 / 255 + 1e-3
    again = augmented(pixels, reach, np.random.default_rng(1))
    assert torch.equal(values, again)
    assert not torch.equal(values, augmented(pixels, reach, np.random.default_rng(2)))
