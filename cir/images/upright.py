"""A decoded image seen upright and with 8 bits a channel, row by row, so that a large one needs no copy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps

Colour = tuple[int, int, int]

#: EXIF's tag of the orientation.
ORIENTATION_TAG = 0x0112
_TRANSPOSE_BY_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Up to this many pixels an image is handled whole; larger ones are read in bands.
_WHOLE_PIXELS = 2 * 1024 * 1024
_BAND_PIXELS = 256 * 1024
#: Pixels of a padded image up to which resizing is Pillow's own; see `UprightImage.resized`.
EXACT_PIXELS = 26_000_000
# Modes that Pillow resizes in two passes, each channel by itself, and the mode in which it does so.
_BANDED = {
    "L": "L",
    "RGB": "RGB",
    "RGBX": "RGBX",
    "CMYK": "CMYK",
    "YCbCr": "YCbCr",
    "LA": "La",
    "RGBA": "RGBa",
}


@dataclass(frozen=True, slots=True)
class GreyRange:
    """The levels of a deep greyscale image that become black and white."""

    black: float
    white: float


def orientation_of(image: Image.Image) -> int:
    """Return the orientation that is left to apply, 1 to 8, of an image whose pixels have been loaded.

    Some decoders turn the image themselves while they load it, and clear the tag then, not before.
    """
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:
        # An image whose pixels are fine is not refused for damaged EXIF data.
        return 1
    return value if isinstance(value, int) and value in range(1, 9) else 1


def grey_range(image: Image.Image) -> GreyRange | None:
    """Return the range of a greyscale image of more than 8 bits; None where its levels are 8 bits already.

    16 bits are scaled by their type: 65,535 is white. Integers of 32 bits and floating point do not state
    their range, so that the brightest pixel tells it: up to 1 (floating point only), up to 255, up to 65,535,
    else the brightest pixel is white. Black is 0, or the darkest pixel where one is negative. Infinities do
    not count.
    """
    if image.mode.startswith("I;16"):
        return GreyRange(0, 65_535)
    if image.mode not in ("I", "F"):
        return None
    darkest, brightest = _extremes(image)
    if image.mode == "F" and brightest <= 1:
        white = 1.0
    elif brightest < 256:
        white = 255.0
    else:
        white = max(brightest, 65_535.0)
    if image.mode == "I" and darkest >= 0 and white == 255.0:
        return None
    return GreyRange(min(darkest, 0.0), white)


def _extremes(image: Image.Image) -> tuple[float, float]:
    darkest, brightest = np.inf, -np.inf
    for top, bottom in _bands(image.width, image.height):
        levels = _levels(image.crop((0, top, image.width, bottom)))
        finite = levels[np.isfinite(levels)]
        if finite.size:
            darkest, brightest = min(darkest, finite.min()), max(brightest, finite.max())
    return (float(darkest), float(brightest)) if darkest <= brightest else (0.0, 1.0)


def _levels(image: Image.Image) -> npt.NDArray[Any]:
    levels = np.asarray(image)
    # Pillow keeps 32-bit integers of a file that are unsigned as if they had a sign.
    return levels.view(np.uint32) if image.info.get("unsigned") and image.mode == "I" else levels


def to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale greyscale of 16 or 32 bits, or of floating point, to 8 bits; return other images unchanged.

    Pillow's own conversion would cut it off at 255. See `grey_range` for what becomes black and white.
    """
    found = grey_range(image)
    return image if found is None else _scaled(image, found)


def _scaled(image: Image.Image, found: GreyRange) -> Image.Image:
    levels = _levels(image)
    if image.mode.startswith("I;16"):
        return Image.fromarray((levels >> 8).astype(np.uint8))
    if image.mode == "I" and found == GreyRange(0, 65_535):
        return Image.fromarray((levels.astype(np.int64) >> 8).astype(np.uint8))
    number = np.float32 if image.mode == "F" and found.black == 0 and found.white <= 65_535 else np.float64
    known = np.nan_to_num(levels, nan=found.black) if image.mode == "F" else levels
    shifted = np.clip(known, found.black, found.white).astype(number) - number(found.black)
    return Image.fromarray((shifted * number(255 / (found.white - found.black))).round().astype(np.uint8))


def is_translucent(image: Image.Image) -> bool:
    """Return True when something shows through the image; an opaque alpha channel hides nothing."""
    if not image.has_transparency_data:
        return False
    has_alpha = image.mode in ("RGBA", "LA", "PA")
    for top, bottom in _bands(image.width, image.height):
        band = image.crop((0, top, image.width, bottom))
        lowest: Any = (band if has_alpha else band.convert("RGBA")).getextrema()[-1]
        if lowest[0] < 255:
            return True
    return False


def flatten(image: Image.Image, background: Colour) -> Image.Image:
    """Put an RGB colour under transparent pixels; return an image without any unchanged."""
    return _flattened(image, background) if is_translucent(image) else image


def _flattened(image: Image.Image, background: Colour) -> Image.Image:
    ground = Image.new("RGBA", image.size, (*background, 255))
    ground.alpha_composite(image.convert("RGBA"))
    return ground.convert("RGB")


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any 8-bit image to RGB; CIELAB as well, which Pillow's own conversion refuses.

    Raises:
        ValueError: no conversion is known for the mode.
    """
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None  # noqa: S101  # it is None only when converting in place
        return converted
    if image.mode == "La":
        image = image.convert("LA")
    return image.convert("RGB")


@dataclass(frozen=True, slots=True)
class UprightImage:
    """A loaded Pillow image, read upright and with 8 bits a channel.

    `native` keeps the pixels as the file has them. Scaling, flattening on `background` (set where something
    shows through) and turning happen when rows are asked for; with `rgb` rows are RGB, else in the image's
    own mode, RGB where transparency was flattened, L where greyscale was scaled.
    """

    native: Image.Image
    orientation: int = 1
    grey: GreyRange | None = None
    background: Colour | None = None
    rgb: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, upright."""
        width, height = self.native.size
        return (height, width) if self.orientation > 4 else (width, height)

    @property
    def mode(self) -> str:
        """Pillow's mode of the rows."""
        if self.rgb or self.background is not None or self.native.mode == "LAB":
            return "RGB"
        return self.native.mode if self.grey is None else "L"

    def to_rgb(self) -> UprightImage:
        """Return the same image with rows in RGB."""
        return replace(self, rgb=True)

    def whole(self) -> Image.Image:
        """Return all rows."""
        return self._shown(self.native)

    def rows(self, top: int, bottom: int) -> Image.Image:
        """Return the rows from `top` to `bottom` (exclusive) of the upright image."""
        width, height = self.native.size
        match self.orientation:
            case 1 | 2:
                box = (0, top, width, bottom)
            case 3 | 4:
                box = (0, height - bottom, width, height - top)
            case 5 | 6:
                box = (top, 0, bottom, height)
            case _:
                box = (width - bottom, 0, width - top, height)
        return self._shown(self.native.crop(box))

    def _shown(self, image: Image.Image) -> Image.Image:
        if self.grey is not None:
            image = _scaled(image, self.grey)
        if self.background is not None:
            image = _flattened(image, self.background)
        if self.rgb or image.mode == "LAB":
            image = to_rgb(image)
        transpose = _TRANSPOSE_BY_ORIENTATION.get(self.orientation)
        return image if transpose is None else image.transpose(transpose)

    def resized(
        self, size: tuple[int, int], resample: Image.Resampling, *, across: int = 0, down: int = 0
    ) -> Image.Image:
        """Return the image resized to `size`, after padding it with black.

        `across` pixels are added on the left and the right each, `down` on the top and the bottom each. The
        pixels are those of Pillow's `resize` on the padded image. Beyond `EXACT_PIXELS` that image is not
        made: rows are resized before columns, so that a few pixels may be rounded the other way.
        """
        width, height = self.size
        padded = (width + 2 * across, height + 2 * down)
        if padded == self.size and self._is_native():
            return self.native.resize(size, resample)
        if padded[0] * padded[1] <= _WHOLE_PIXELS:
            image = self.whole()
            if across or down:
                image = pad(image, (across, down, across, down), 0)
            return image.resize(size, resample)
        if padded[0] * padded[1] <= EXACT_PIXELS or self.mode not in _BANDED:
            return self._canvas(padded, across, down).resize(size, resample)
        mode = _BANDED[self.mode]
        narrow = Image.new(mode, (size[0], padded[1]))
        for top, bottom in _bands(padded[0], height):
            band = self.rows(top, bottom)
            if band.mode != mode:
                band = band.convert(mode)
            if across:
                wide = Image.new(mode, (padded[0], bottom - top))
                wide.paste(band, (across, 0))
                band = wide
            narrow.paste(band.resize((size[0], bottom - top), resample), (0, down + top))
        result = narrow.resize(size, resample)
        return result if mode == self.mode else result.convert(self.mode)

    def _is_native(self) -> bool:
        return self.orientation == 1 and self.mode == self.native.mode and self.background is None

    def _canvas(self, size: tuple[int, int], across: int, down: int) -> Image.Image:
        """Return the padded image, with no other copy of the pixels than that."""
        canvas = Image.new(self.mode, size)
        if self.mode == "P" and (palette := self.native.getpalette()) is not None:
            canvas.putpalette(palette)
        for top, bottom in _bands(*self.size):
            canvas.paste(self.rows(top, bottom), (across, down + top))
        return canvas

    def fitted(self, fit: tuple[int, int]) -> Image.Image:
        """Return the image in RGB, as large as `fit` (width, height) allows, and never enlarged."""
        width, height = self.size
        scale = min(1.0, fit[0] / width, fit[1] / height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        return self.to_rgb().resized(size, Image.Resampling.LANCZOS)


def _bands(width: int, height: int) -> list[tuple[int, int]]:
    rows = max(1, _BAND_PIXELS // max(1, width))
    return [(top, min(height, top + rows)) for top in range(0, height, rows)]


def pad(image: Image.Image, border: tuple[int, int, int, int], level: int) -> Image.Image:
    """Return the image with `border` pixels of a grey level on the left, top, right and bottom."""
    channels = len(image.getbands())
    padded = ImageOps.expand(image, border, level if channels == 1 else (level,) * channels)
    if image.mode == "P":
        # The border is an entry of the palette, whatever its colour, as in the published transform.
        palette = image.getpalette()
        if palette is not None:
            padded.putpalette(palette)
    return padded
