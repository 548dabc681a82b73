"""Surroundings of a garment in a photo: the ground it lies on, light, shadow, noise and compression."""

from __future__ import annotations

import io
import math
import random
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from garments.cloth import Rgb, mixed, shaded

Size = tuple[int, int]
"""Width and height in pixels."""

_GROUNDS: tuple[Rgb, ...] = (
    (244, 243, 240),
    (226, 222, 214),
    (206, 212, 218),
    (188, 180, 168),
    (214, 200, 186),
    (166, 176, 178),
    (198, 208, 196),
    (222, 208, 212),
    (120, 122, 126),
    (96, 88, 82),
)
_WOODS: tuple[Rgb, ...] = ((186, 148, 106), (214, 184, 146), (142, 104, 74), (198, 186, 172))
COARSE = 8  # shadows and folds are soft: they are computed this much smaller
_APART = 90.0  # least distance between cloth and ground, so that the outline can be seen


def background(size: Size, cloth: Rgb, rng: random.Random) -> Image.Image:
    """An RGB ground that stands out from the cloth: paper, wall and floor, boards, a sheet or tiles."""
    draw = rng.choices((_paper, _room, _boards, _sheet, _tiles), weights=(4, 2, 3, 2, 2))[0]
    return draw(size, cloth, rng)


def cast_shadow(
    ground: Image.Image, coarse: Image.Image, corner: tuple[int, int], rng: random.Random
) -> Image.Image:
    """The ground with the soft shadow of what lies at `corner`; its mask (L) is `COARSE` times smaller."""
    shadow = Image.new("L", (-(-ground.width // COARSE), -(-ground.height // COARSE)))
    offset = rng.choice((-1, 1, 2)), rng.choice((1, 2))
    shadow.paste(coarse, (corner[0] // COARSE + offset[0], corner[1] // COARSE + offset[1]))
    strength = rng.uniform(0.30, 0.55)
    shadow = shadow.filter(ImageFilter.BoxBlur(2)).filter(ImageFilter.BoxBlur(1))
    shadow = shadow.point([round(255 - value * strength) for value in range(256)])
    return ImageChops.multiply(ground, shadow.resize(ground.size, Image.Resampling.BILINEAR).convert("RGB"))


def light(image: Image.Image, rng: random.Random) -> Image.Image:
    """Put the image under light that is warmer or colder, and falls off to one side."""
    warmth, exposure = rng.uniform(-0.05, 0.05), rng.uniform(0.88, 1.0)
    across, down = rng.uniform(-0.08, 0.08), rng.uniform(-0.08, 0.08)
    x, y = np.meshgrid(np.linspace(-1, 1, 6), np.linspace(-1, 1, 8))
    fall = exposure * (1 + across * x + down * y)
    gains = np.array([1 + min(0.0, warmth), 1 - abs(warmth) / 3, 1 - max(0.0, warmth)])
    gain = np.clip(fall[:, :, None] * gains * 255, 0, 255).astype(np.uint8)
    return ImageChops.multiply(image, Image.fromarray(gain).resize(image.size, Image.Resampling.BILINEAR))


def photographed(image: Image.Image, rng: random.Random) -> bytes:
    """Return a JPEG file of the image: a little out of focus, with noise."""
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.2, 0.5) * image.height / 512))
    noise = _noise(image.size, rng)
    grained = ImageChops.add(image, noise, 1, -128)
    file = io.BytesIO()
    grained.save(file, "JPEG", quality=rng.randint(68, 93))
    return file.getvalue()


def _ground(colours: tuple[Rgb, ...], cloth: Rgb, rng: random.Random) -> Rgb:
    far = [colour for colour in colours if _distance(colour, cloth) >= _APART]
    return shaded(
        rng.choice(far or [max(colours, key=lambda each: _distance(each, cloth))]), rng.uniform(0.95, 1.03)
    )


def _distance(first: Rgb, second: Rgb) -> float:
    return math.dist(first, second)


def _paper(size: Size, cloth: Rgb, rng: random.Random) -> Image.Image:
    return Image.new("RGB", size, _ground(_GROUNDS, cloth, rng))


def _room(size: Size, cloth: Rgb, rng: random.Random) -> Image.Image:
    wall = _ground(_GROUNDS, cloth, rng)
    room = Image.new("RGB", size, wall)
    pen = ImageDraw.Draw(room)
    line = round(size[1] * rng.uniform(0.80, 0.92))
    skirting = max(1, size[1] // 60)
    pen.rectangle((0, line, *size), fill=_ground(_WOODS, cloth, rng))
    pen.rectangle((0, line - skirting, size[0], line), fill=mixed(wall, (255, 255, 255), 0.5))
    return room


def _boards(size: Size, cloth: Rgb, rng: random.Random) -> Image.Image:
    wood = _ground(_WOODS, cloth, rng)
    floor = Image.new("RGB", size, wood)
    pen = ImageDraw.Draw(floor)
    wide = round(size[1] * rng.uniform(0.10, 0.17))
    seam, upright = shaded(wood, 0.72), rng.random() < 0.6
    thin = max(1, size[1] // 256)
    along = size[0] if upright else size[1]
    for start in range(-rng.randrange(wide), along, wide):
        tone = shaded(wood, rng.uniform(0.90, 1.06))
        cut = rng.randrange(size[1] if upright else size[0])
        for box, colour in (
            ((start, 0, start + wide, size[1]), tone),
            ((start, 0, start + thin, size[1]), seam),
            ((start, cut, start + wide, cut + thin), seam),
        ):
            pen.rectangle(
                box if upright else (box[1], box[0], max(box[3], size[0] * (box[3] == size[1])), box[2]),
                fill=colour,
            )
    return floor


def _sheet(size: Size, cloth: Rgb, rng: random.Random) -> Image.Image:
    folds = Image.fromarray(
        np.array([[round(rng.uniform(216, 255)) for _ in range(7)] for _ in range(9)], dtype=np.uint8)
    ).resize(size, Image.Resampling.BICUBIC)
    return ImageChops.multiply(_paper(size, cloth, rng), folds.convert("RGB"))


def _tiles(size: Size, cloth: Rgb, rng: random.Random) -> Image.Image:
    stone = _ground(_GROUNDS, cloth, rng)
    floor = Image.new("RGB", size, stone)
    pen = ImageDraw.Draw(floor)
    side = round(size[1] * rng.uniform(0.24, 0.36))
    joint, thin = shaded(stone, 0.84), max(1, size[1] // 128)
    for start in range(-rng.randrange(side), size[0], side):
        pen.rectangle((start, 0, start + thin, size[1]), fill=joint)
    for start in range(-rng.randrange(side), size[1], side):
        pen.rectangle((0, start, size[0], start + thin), fill=joint)
    return floor


def _noise(size: Size, rng: random.Random) -> Image.Image:
    grain = _grains(rng.randrange(3))
    high, wide = size[1], size[0]
    while grain.shape[0] < high + 64 or grain.shape[1] < wide + 64:
        grain = np.tile(grain, (2, 2))
    x, y = rng.randrange(64), rng.randrange(64)
    return Image.fromarray(np.ascontiguousarray(grain[y : y + high, x : x + wide])).convert("RGB")


@lru_cache(maxsize=3)
def _grains(strength: int) -> NDArray[np.uint8]:
    """A field of grain around 128, made once for each strength."""
    normal = np.random.Generator(np.random.PCG64(strength)).normal(128, 1.5 + 1.8 * strength, (640, 512))
    return np.clip(np.rint(normal), 0, 255).astype(np.uint8)
