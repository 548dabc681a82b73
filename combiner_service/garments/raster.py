"""From outlines to masks with smooth edges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from combiner_service.garments.drawing.shape import Fill, Part, Shape, Stroke

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
