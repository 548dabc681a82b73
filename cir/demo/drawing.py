"""Drawing one garment: an outline filled with a pattern, a little different each time. Pure."""

from __future__ import annotations

import random

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from cir.demo.garments import OUTLINES, PAIRS, Outline, Point

SIZE = 224
_SCALE = 2  # drawn larger and reduced, so that edges are smooth
_SIDE = SIZE * _SCALE

Rgb = tuple[int, int, int]

COLOURS: dict[str, Rgb] = {
    "red": (205, 32, 44),
    "orange": (240, 128, 24),
    "yellow": (246, 212, 48),
    "green": (40, 142, 70),
    "blue": (36, 84, 190),
    "purple": (120, 60, 160),
    "pink": (244, 150, 186),
    "brown": (122, 78, 44),
    "black": (32, 32, 36),
    "grey": (142, 146, 150),
}
KINDS = tuple(OUTLINES)
PATTERNS = ("plain", "stripes", "dots", "checks")


def draw_garment(kind: str, colour: str, pattern: str, *, seed: int) -> Image.Image:
    """An RGB picture of `SIZE` x `SIZE` pixels; the seed varies shade, place, size and tilt a little."""
    rng = random.Random(seed)  # noqa: S311  # pictures, not secrets
    shade = _shaded(COLOURS[colour], rng.uniform(0.9, 1.08))
    cloth = _cloth(shade, pattern, rng)
    mask = _mask(kind, OUTLINES[kind], rng)
    background = Image.new("RGB", mask.size, _shaded((246, 245, 242), rng.uniform(0.96, 1.03)))
    edge = ImageChops.subtract(mask, mask.filter(ImageFilter.MinFilter(3)))
    picture = Image.composite(cloth, background, mask)
    picture.paste(_shaded(shade, 0.55), mask=edge)
    return picture


def _mask(kind: str, outline: Outline, rng: random.Random) -> Image.Image:
    mask = Image.new("L", (_SIDE, _SIDE), 0)
    pen = ImageDraw.Draw(mask)
    for polygon in outline.polygons():
        halves = [polygon]
        if kind in PAIRS:
            middle = len(polygon) // 2
            halves = [polygon[:middle], polygon[middle:]]
        for points in halves:
            pen.polygon([_pixel(point) for point in points], fill=255)
    for box in outline.ellipses:
        pen.ellipse(_box(box), fill=255)
    for box in outline.holes:
        pen.ellipse(_box(box), fill=0)
    angle = rng.uniform(-6, 6)
    shift = (rng.uniform(-0.03, 0.03) * _SIDE, rng.uniform(-0.03, 0.03) * _SIDE)
    mask = mask.rotate(angle, Image.Resampling.BILINEAR, translate=(round(shift[0]), round(shift[1])))
    side = round(SIZE * rng.uniform(0.82, 0.98))
    smaller = mask.resize((side, side), Image.Resampling.BOX)
    placed = Image.new("L", (SIZE, SIZE), 0)
    placed.paste(smaller, ((SIZE - side) // 2, (SIZE - side) // 2))
    return placed


def _cloth(shade: Rgb, pattern: str, rng: random.Random) -> Image.Image:
    cloth = Image.new("RGB", (_SIDE, _SIDE), shade)
    pen = ImageDraw.Draw(cloth)
    mark = _mixed(shade, (255, 255, 255), 0.72)
    step = round(_SIDE * rng.uniform(0.075, 0.095))
    if pattern in ("stripes", "checks"):
        for offset in range(0, _SIDE, step):
            pen.rectangle((0, offset, _SIDE, offset + step // 3), fill=mark)
    if pattern == "checks":
        for offset in range(0, _SIDE, step):
            pen.rectangle((offset, 0, offset + step // 3, _SIDE), fill=mark)
    if pattern == "dots":
        radius = step // 4
        for row, y in enumerate(range(0, _SIDE + step, step)):
            for x in range(-(row % 2) * step // 2, _SIDE + step, step):
                pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=mark)
    return cloth.reduce(_SCALE)


def _pixel(point: Point) -> Point:
    return point[0] * _SIDE, point[1] * _SIDE


def _box(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    return box[0] * _SIDE, box[1] * _SIDE, box[2] * _SIDE, box[3] * _SIDE


def _shaded(colour: Rgb, factor: float) -> Rgb:
    red, green, blue = (min(255, round(value * factor)) for value in colour)
    return red, green, blue


def _mixed(first: Rgb, second: Rgb, share: float) -> Rgb:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue
