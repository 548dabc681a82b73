"""From a decoded image to the square RGB pixels that a CLIP takes.

Two published transforms are combined here, pixel for pixel, with Pillow only. CLIP4Cir pads first
(`data_utils.py`: TargetPad or SquarePad). Then the image becomes a square in the way that the model was
trained with, which open_clip publishes with the weights as resize mode and interpolation (`transform.py`:
`image_transform`). Two details matter: padding and resizing happen in the image's own mode, before the
conversion to RGB, and CLIP4Cir's padding is truncated with `int()`, so a padded image may be one pixel short
of its ratio. Normalisation is left to the device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from PIL import Image

from cir.images.decode import Decoder, ImageError, unusable_mode
from cir.images.upright import EXACT_PIXELS, UprightImage, pad

#: RGB pixels, uint8 (size, size, 3) or a batch of them, rows from the top.
Pixels = npt.NDArray[np.uint8]


class PaddingMode(StrEnum):
    """Treatment of an image that is not square."""

    TARGETPAD = "targetpad"
    """Pad the short side with black until the ratio is `target_ratio`, then crop the centre."""
    SQUAREPAD = "squarepad"
    """Pad the short side with black to a square."""
    CLIP = "clip"
    """Do not pad: the image is prepared as for the model's own training."""


class ResizeMode(StrEnum):
    """Way in which an image becomes a square."""

    SHORTEST = "shortest"
    """Resize the short side to the size of the model, crop the centre."""
    LONGEST = "longest"
    """Resize the long side to the size of the model, fill up the short side."""
    SQUASH = "squash"
    """Resize both sides to the size of the model, whatever the ratio."""


class Interpolation(StrEnum):
    """Filter of the resizing, with antialiasing as Pillow does it."""

    BICUBIC = "bicubic"
    BILINEAR = "bilinear"


_FILTERS = {
    Interpolation.BICUBIC: Image.Resampling.BICUBIC,
    Interpolation.BILINEAR: Image.Resampling.BILINEAR,
}


@dataclass(frozen=True, slots=True)
class Preprocessor:
    """The transform of one model.

    `size` is the side of the result in pixels. `fill` is the grey level, 0 to 255, beside an image whose long
    side was resized (`ResizeMode.LONGEST`); the padding of `mode` is black. `max_pixels` bounds every
    intermediate image: padding a 1 x 50,000 image to a square, or resizing its short side to 224, would take
    gigabytes.
    """

    mode: PaddingMode = PaddingMode.TARGETPAD
    size: int = 224
    target_ratio: float = 1.25
    max_pixels: int = 128_000_000
    resize_mode: ResizeMode = ResizeMode.SHORTEST
    interpolation: Interpolation = Interpolation.BICUBIC
    fill: int = 0

    @property
    def padding_ratio(self) -> float:
        """Target ratio where it is used, else 0."""
        return self.target_ratio if self.mode is PaddingMode.TARGETPAD else 0.0

    def __call__(self, image: Image.Image | UprightImage) -> Pixels:
        """Return uint8 of shape (size, size, 3), RGB, rows from the top.

        Raises:
            ImageError: IMAGE_TOO_MANY_PIXELS when an intermediate image would exceed `max_pixels`,
                IMAGE_UNREADABLE for a pixel format that cannot be resized or converted.
            MemoryError: there is no memory for it.
        """
        shown = UprightImage(image) if isinstance(image, Image.Image) else image
        self.check_size(*shown.size)
        (across, down), _, resized = self._sizes(*shown.size)
        try:
            result = shown.resized(resized, _FILTERS[self.interpolation], across=across, down=down)
            return np.asarray(self._crop_or_fill(result).convert("RGB"))
        except (ValueError, TypeError, OSError) as error:
            raise unusable_mode(shown.mode, error) from error

    def check_size(self, width: int, height: int) -> None:
        """Check what an image of a size would become, before it is decoded.

        Raises:
            ImageError: IMAGE_TOO_MANY_PIXELS.
        """
        _, *sizes = self._sizes(width, height)
        for across, down in sizes:
            if across * down > self.max_pixels:
                raise ImageError(
                    f"an image of {width} x {height} becomes {across} x {down} in preprocessing, over the "
                    f"limit of {self.max_pixels} pixels; crop it first",
                    reason="IMAGE_TOO_MANY_PIXELS",
                )

    def memory_bytes(self, width: int, height: int) -> int:
        """Return the memory that intermediate images take at most."""
        if not width or not height:
            return 0
        _, padded, resized = self._sizes(width, height)
        canvas = padded[0] * padded[1]
        return 4 * (resized[0] * (padded[1] + resized[1]) + (canvas if canvas <= EXACT_PIXELS else 0))

    def _sizes(self, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Return the padding, the padded size and the resized one."""
        across, down = padding(width, height, self.mode, self.target_ratio)
        padded = (width + 2 * across, height + 2 * down)
        return (across, down), padded, resized_size(*padded, self.size, self.resize_mode)

    def _crop_or_fill(self, image: Image.Image) -> Image.Image:
        """Return the centre where a side is too long; fill up evenly where one is too short."""
        size = self.size
        if image.width < size or image.height < size:
            left, top = (size - image.width) // 2, (size - image.height) // 2
            right, bottom = size - image.width - left, size - image.height - top
            return pad(image, (left, top, right, bottom), self.fill)
        left, top = round((image.width - size) / 2), round((image.height - size) / 2)
        return image.crop((left, top, left + size, top + size))


@dataclass(frozen=True, slots=True)
class Preparation:
    """Decoding and preprocessing in one: from an image file to the pixels of one model."""

    decoder: Decoder
    preprocessor: Preprocessor

    def __call__(self, content: bytes) -> Pixels:
        """Return the pixels of an image file, as the decoder and the preprocessor give them."""
        return self.preprocessor(self.decoder.decode(content))

    def memory_bytes(self, width: int, height: int) -> int:
        """Return the memory that preprocessing takes."""
        return self.preprocessor.memory_bytes(width, height)


def prepare_with(decoder: Decoder, preprocessor: Preprocessor) -> Preparation:
    """Return the preparation in which the decoder refuses what the preprocessor could not take."""
    return Preparation(replace(decoder, check_size=preprocessor.check_size), preprocessor)


def padding(width: int, height: int, mode: PaddingMode, target_ratio: float) -> tuple[int, int]:
    """Return the pixels to add on the left and the right each, and on the top and the bottom each."""
    longest = max(width, height)
    if mode is PaddingMode.CLIP:
        return 0, 0
    if mode is PaddingMode.TARGETPAD:
        if longest / min(width, height) < target_ratio:
            return 0, 0
        side = longest / target_ratio
    else:
        side = float(longest)
    return max(int((side - width) / 2), 0), max(int((side - height) / 2), 0)


def resized_size(
    width: int, height: int, size: int, mode: ResizeMode = ResizeMode.SHORTEST
) -> tuple[int, int]:
    """Return width and height after resizing for a model of `size` x `size` pixels.

    With the short side resized the other one is truncated, with the long side it is rounded, as published; it
    has one pixel at least, where the published transform fails.
    """
    if mode is ResizeMode.SQUASH:
        return size, size
    if mode is ResizeMode.LONGEST:
        ratio = max(width, height) / size
        return max(round(width / ratio), 1), max(round(height / ratio), 1)
    if width <= height:
        return size, int(size * height / width)
    return int(size * width / height), size
