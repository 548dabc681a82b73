"""A garment as the JPEG of a photo: posed, rasterised, coloured, and laid on a ground."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from garments.augment import COARSE, Size, background, cast_shadow, light, photographed
from garments.cloth import Palette, Pattern, Rgb, brightness, palette_of, pattern_of, turned
from garments.drawing import shape_of
from garments.drawing.shape import Fill, Part, Points, Shape, Stroke
from garments.vocabulary import Attributes

_USUAL = 0.72  # of the image's height, a usual garment's larger side; small ones are seen from nearer
_MOST = 0.95  # of the image's width and height that a garment covers


@dataclass(frozen=True, slots=True)
class Pose:
    """A shape in pixels, its box at the origin; `corner` is where the box lies in the image.

    `degrees` says how far the shape was turned clockwise.
    """

    shape: Shape
    corner: tuple[int, int]
    degrees: float


def posed(shape: Shape, size: Size, rng: random.Random) -> Pose:
    """Return the shape in one of the ways in which it can lie in an image of `size`, always wholly within."""
    degrees = rng.gauss(0, 4.5)
    angle, lean = math.radians(degrees), rng.uniform(-0.03, 0.03)
    scale, stretch = rng.uniform(0.86, 1.03), rng.uniform(0.96, 1.04)
    sway, phase, period = rng.uniform(0.001, 0.006), rng.uniform(0, 6.28), rng.uniform(5, 9)
    matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])

    def move(points: Points) -> Points:
        x, y = points[:, 0], points[:, 1] - 0.5
        swayed = x * stretch + lean * y + sway * np.sin(period * y + phase)
        placed = np.stack([swayed, y / stretch + sway * np.sin(period * x + phase)], axis=1)
        turned: Points = placed @ matrix
        return turned

    moved = [move(part.outline) for part in shape.parts]
    top = np.min([line.min(axis=0) for line in moved], axis=0)
    extent = np.max([line.max(axis=0) for line in moved], axis=0) - top
    whole = np.array(size, dtype=np.float64)
    scale *= (_USUAL / max(extent)) ** 0.4
    factor = min(scale * size[1], *(whole * _MOST / extent))
    spare = (whole - extent * factor) / 2
    place = spare * (1 + np.array([rng.uniform(-0.6, 0.6), rng.uniform(-0.6, 0.6)]))
    corner = np.floor(place)
    shift = place - corner - top * factor

    return Pose(
        Shape(
            tuple(
                Part(line * factor + shift, part.fill) for part, line in zip(shape.parts, moved, strict=True)
            ),
            tuple(
                Stroke(move(stroke.line) * factor + shift, stroke.width * factor, stroke.tone)
                for stroke in shape.strokes
            ),
            shape.left_angle,
            shape.right_angle,
        ),
        (int(corner[0]), int(corner[1])),
        degrees,
    )


_LARGER = 2  # drawn larger and reduced, so that edges are smooth
_OUTLINE_WIDTH, _OUTLINE_TONE = 1 / 300, 110  # of the larger side; of 255
_FULL_TONE = 200


@dataclass(frozen=True, slots=True)
class Layers:
    """Masks (L) of one size: where each fill can be seen, the whole garment, dark and bright lines."""

    fills: Mapping[Fill, Image.Image]
    whole: Image.Image
    dark: Image.Image
    bright: Image.Image


def rasterised(shape: Shape) -> Layers:
    """The masks of a shape in pixels, just large enough for all of its parts."""
    extent = np.max([part.outline.max(axis=0) for part in shape.parts], axis=0)
    size = math.ceil(extent[0]) + 1, math.ceil(extent[1]) + 1
    large = size[0] * _LARGER, size[1] * _LARGER
    fills, whole, outlines = _parts(shape.parts, large)
    whole = whole.reduce(_LARGER)
    lines, bright = _strokes(shape.strokes, large)
    dark = ImageChops.lighter(outlines.reduce(_LARGER), ImageChops.multiply(lines.reduce(_LARGER), whole))
    return Layers(
        {fill: mask.reduce(_LARGER) for fill, mask in fills.items()}, whole, dark, bright.reduce(_LARGER)
    )


def _parts(
    parts: tuple[Part, ...], size: tuple[int, int]
) -> tuple[dict[Fill, Image.Image], Image.Image, Image.Image]:
    fills: dict[Fill, Image.Image] = {}
    whole, outlines = Image.new("L", size), Image.new("L", size)
    whole_pen, outline_pen = ImageDraw.Draw(whole), ImageDraw.Draw(outlines)
    width = max(2, round(max(size) * _OUTLINE_WIDTH))
    for part in parts:
        points = (part.outline * _LARGER).ravel().tolist()
        if part.fill not in fills:
            fills[part.fill] = Image.new("L", size)
        # A part hides what was drawn before, outlines too.
        for fill, mask in fills.items():
            ImageDraw.Draw(mask).polygon(points, fill=255 if fill is part.fill else 0)
        whole_pen.polygon(points, fill=255)
        outline_pen.polygon(points, fill=0)
        outline_pen.line([*points, *points[:2]], fill=_OUTLINE_TONE, width=width, joint="curve")
    return fills, whole, outlines


def _strokes(strokes: tuple[Stroke, ...], size: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    dark, bright = Image.new("L", size), Image.new("L", size)
    pens = ImageDraw.Draw(dark), ImageDraw.Draw(bright)
    for stroke in strokes:
        pens[stroke.tone > 0].line(
            (stroke.line * _LARGER).ravel().tolist(),
            fill=round(abs(stroke.tone) * _FULL_TONE),
            width=max(1, round(stroke.width * _LARGER)),
            joint="curve",
        )
    return dark, bright


SIZE: Size = (384, 512)

_BLACK, _GREY, _THREAD = (0, 0, 0), (150, 150, 156), (252, 250, 244)
_DARK_CLOTH = 60.0  # luma below which seams are drawn lighter than the cloth


def render(attributes: Attributes, *, seed: int, size: Size = SIZE) -> bytes:
    """Draw a garment with these attributes, as a JPEG file of `size` (width, height).

    The seed varies what is not an attribute: pose, scale, shade, folds, ground, light, noise and compression.
    The same seed draws the same bytes in every process with the same version of Pillow.
    """
    rng = random.Random(seed)  # noqa: S311  # images, not secrets
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
