"""A picture of one garment: cloth, folds and seams, and the photo of it. Pure: the seed decides."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

from combiner_service.garments.attributes import Attributes
from combiner_service.garments.colours import Palette, Rgb, brightness, palette_of
from combiner_service.garments.drawing.kinds import shape_of
from combiner_service.garments.drawing.shape import Fill
from combiner_service.garments.patterns import Pattern, pattern_of, turned
from combiner_service.garments.pose import posed
from combiner_service.garments.raster import Layers, rasterised
from combiner_service.garments.scene import COARSE, Size, background, cast_shadow, light, photographed

SIZE: Size = (384, 512)

_BLACK, _GREY, _THREAD = (0, 0, 0), (150, 150, 156), (252, 250, 244)
_DARK_CLOTH = 60.0  # luma below which seams are drawn lighter than the cloth


def render(attributes: Attributes, *, seed: int, size: Size = SIZE) -> bytes:
    """A JPEG file of `size` (width, height) that shows a garment with these attributes.

    The seed varies what is no attribute: pose, scale, shade, folds, ground, light, noise and compression. The
    same seed draws the same bytes in every process with the same version of Pillow.
    """
    rng = random.Random(seed)  # noqa: S311  # pictures, not secrets
    palette = palette_of(attributes["colour"], rng)
    pose = posed(shape_of(attributes, rng), size, rng)
    layers = rasterised(pose.shape)
    garment = Image.new("RGB", layers.whole.size, palette.cloth)
    if pattern := pattern_of(attributes["pattern"], size, rng):
        _print_pattern(
            garment, pattern, layers, palette, pose.degrees, pose.shape.left_angle, pose.shape.right_angle
        )
    for fill, colour in _plain_fills(palette):
        if fill in layers.fills:
            _colour(garment, colour, layers.fills[fill])
    coarse = layers.whole.reduce(COARSE)
    garment = ImageChops.multiply(garment, _folds(coarse, layers.whole.size, rng))
    _colour(garment, _BLACK if brightness(palette.cloth) > _DARK_CLOTH else _GREY, layers.dark)
    _colour(garment, _THREAD, layers.bright)
    ground = cast_shadow(background(size, palette.cloth, rng), coarse, pose.corner, rng)
    ground.paste(garment, pose.corner, layers.whole)
    return photographed(light(ground, rng), rng)


def _plain_fills(palette: Palette) -> tuple[tuple[Fill, Rgb], ...]:
    return (
        (Fill.INSIDE, palette.inside),
        (Fill.TRIM, palette.trim),
        (Fill.LEATHER, palette.leather),
        (Fill.SOLE, palette.sole),
        (Fill.METAL, palette.metal),
    )


def _print_pattern(
    garment: Image.Image,
    pattern: Pattern,
    layers: Layers,
    palette: Palette,
    degrees: float,
    left: float,
    right: float,
) -> None:
    for fill, angle in ((Fill.CLOTH, -degrees), (Fill.LEFT, left - degrees), (Fill.RIGHT, right - degrees)):
        box = layers.fills[fill].getbbox() if fill in layers.fills else None
        if box is None:
            continue
        within = layers.fills[fill].crop(box)
        for marks, colour in zip(turned(pattern, angle, box), (palette.mark, palette.accent), strict=False):
            garment.paste(colour, box, ImageChops.multiply(marks, within))


def _colour(garment: Image.Image, colour: Rgb, mask: Image.Image) -> None:
    if box := mask.getbbox():
        garment.paste(colour, box, mask.crop(box))


def _folds(coarse: Image.Image, size: Size, rng: random.Random) -> Image.Image:
    """Light on the cloth (RGB, of `size`): darker to the edges of `coarse`, with soft folds across."""
    x = np.arange(coarse.width)[None, :] / 64
    y = np.arange(coarse.height)[:, None] / 64
    waves = np.zeros((coarse.height, coarse.width))
    for _ in range(4):
        direction, frequency = rng.uniform(-0.9, 0.9), rng.uniform(9, 26)
        bend, phase = rng.uniform(-1.5, 1.5), rng.uniform(0, 6.28)
        waves += np.sin(frequency * (x + direction * y * 0.6) + bend * np.sin(5 * y + phase) + phase)
    # Beyond the frame there is nothing: without this margin the cloth would not darken to the frame's sides.
    inner = ImageOps.expand(coarse, 4).filter(ImageFilter.BoxBlur(3))
    depth = np.clip((np.asarray(ImageOps.crop(inner, 4)) / 255.0 - 0.35) / 0.6, 0, 1)
    shade = 0.79 + 0.18 * depth * (2 - depth) + rng.uniform(0.012, 0.026) * waves
    folds = Image.fromarray((np.clip(shade, 0, 1) * 255).astype(np.uint8))
    return folds.resize(size, Image.Resampling.BILINEAR).convert("RGB")
