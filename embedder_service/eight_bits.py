"""Pictures of more than 8 bits, and pictures with alpha, made into what the published transform expects."""

from __future__ import annotations

import numpy as np
from PIL import Image


def to_eight_bits(picture: Image.Image) -> Image.Image:
    """Scale greyscale of 16 or 32 bits, or of floating point, to 8 bits; others come back as they are.

    Pillow's own conversion would clip it to white. 16-bit files are scaled by their type. The wider types say
    nothing of their range, so it is taken from the brightest pixel: up to 1 (floating point only), up to 255,
    or up to 65,535, beyond which they are clipped.
    """
    if picture.mode == "F":
        levels = np.nan_to_num(np.asarray(picture), nan=0.0)
        brightest = levels.max()
        white = 1.0 if brightest <= 1 else 255.0 if brightest < 256 else 65_535.0
        return Image.fromarray((np.clip(levels, 0, white) * np.float32(255 / white)).round().astype(np.uint8))
    if not picture.mode.startswith("I"):
        return picture
    levels = np.asarray(picture)
    if picture.mode == "I" and levels.max() < 256:
        return picture
    return Image.fromarray((np.clip(levels, 0, 65_535) >> 8).astype(np.uint8))


def flatten(picture: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Put an RGB colour under transparent pixels; a picture without any comes back as it is."""
    if not picture.has_transparency_data:
        return picture
    layer = picture.convert("RGBA")
    lowest, _ = layer.getchannel("A").getextrema()
    if lowest == 255:
        # Nothing shows through: leave the picture as it is, so that it is treated as published.
        return picture
    ground = Image.new("RGBA", layer.size, (*background, 255))
    ground.alpha_composite(layer)
    return ground.convert("RGB")
