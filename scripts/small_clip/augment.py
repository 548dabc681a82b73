"""Augmentation: images moved, turned, mirrored and lit a little differently each time."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import affine_grid, grid_sample


def augmented(pixels: torch.Tensor, reach: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return float32 (n, 3, side, side) from 0 to 1 of uint8 (n, side, side, 3).

    `reach` (n,) bounds the zoom into each image: 0.1 for drawings, which are varied already, more
    for photos, of which there are few. Colours stay what they are called: light changes by a twelfth at most.
    """
    n = len(pixels)
    far = reach.numpy()
    zoom = 1 + 0.08 * far.clip(0, 0.1) / 0.1 - rng.uniform(0, 1, n) * far
    ratio = np.exp(rng.uniform(-0.5, 0.5, n) * far)
    angle = rng.uniform(-1, 1, n) * (0.05 + 0.3 * far)
    mirror = rng.choice((-1.0, 1.0), n)
    room = np.abs(1 - zoom) + 0.04
    theta = np.zeros((n, 2, 3), np.float32)
    theta[:, 0, 0] = np.cos(angle) * zoom * ratio * mirror
    theta[:, 0, 1] = -np.sin(angle) * zoom
    theta[:, 1, 0] = np.sin(angle) * zoom * mirror
    theta[:, 1, 1] = np.cos(angle) * zoom / ratio
    theta[:, 0, 2] = rng.uniform(-1, 1, n) * room
    theta[:, 1, 2] = rng.uniform(-1, 1, n) * room
    values = pixels.permute(0, 3, 1, 2).float().div(255)
    grid = affine_grid(torch.from_numpy(theta), list(values.shape), align_corners=False)
    moved = grid_sample(values, grid, padding_mode="reflection", align_corners=False)
    light = torch.from_numpy(rng.uniform(0.92, 1.08, (n, 1, 1, 1)).astype(np.float32))
    return moved.mul(light).clamp(0, 1)
