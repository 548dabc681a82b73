"""From a decoded image to the square RGB pixels that a CLIP takes.

Two published transforms are combined here, pixel for pixel, with Pillow only. CLIP4Cir pads first
(`data_utils.py`: TargetPad or SquarePad). Then the image becomes a square in the way that the model was
trained with, which open_clip publishes with the weights as resize mode and interpolation (`transform.py`:
`image_transform`). Two details matter: padding and resizing happen in the image's own mode, before the
conversion to RGB, and CLIP4Cir's padding is truncated with `int()`, so a padded image may be one pixel short
of its ratio. Normalisation is left to the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from cir.common.v1 import errors_pb2 as pb
from service_runtime.errors import ServiceError

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

    def __call__(self, image: Image.Image) -> Pixels:
        """Return uint8 of shape (size, size, 3), RGB, rows from the top.

        Raises:
            ServiceError: IMAGE_TOO_MANY_PIXELS when an intermediate image would exceed `max_pixels`,
                IMAGE_UNREADABLE for a pixel format that cannot be resized or converted, OVERLOADED when there
                is no memory for it.
        """
        across, down = padding(image.width, image.height, self.mode, self.target_ratio)
        padded = (image.width + 2 * across, image.height + 2 * down)
        resized = resized_size(*padded, self.size, self.resize_mode)
        self._check_pixels(image, *padded)
        self._check_pixels(image, *resized)
        try:
            if across or down:
                image = _pad(image, (across, down, across, down), 0)
            image = image.resize(resized, _FILTERS[self.interpolation])
            image = self._crop_or_fill(image)
            return np.asarray(image.convert("RGB"))
        except MemoryError as error:
            raise ServiceError(
                pb.OVERLOADED,
                "there is no memory to preprocess the image; try again later or send a smaller one",
                retry_after=1.0,
            ) from error
        except (ValueError, TypeError, OSError) as error:
            raise ServiceError(
                pb.IMAGE_UNREADABLE,
                f"images of pixel format {image.mode} cannot be resized ({error}); send 8-bit RGB",
            ) from error

    def _crop_or_fill(self, image: Image.Image) -> Image.Image:
        """Return the centre where a side is too long; fill up evenly where one is too short."""
        size = self.size
        if image.width < size or image.height < size:
            left, top = (size - image.width) // 2, (size - image.height) // 2
            right, bottom = size - image.width - left, size - image.height - top
            return _pad(image, (left, top, right, bottom), self.fill)
        left, top = round((image.width - size) / 2), round((image.height - size) / 2)
        return image.crop((left, top, left + size, top + size))

    def _check_pixels(self, image: Image.Image, width: int, height: int) -> None:
        if width * height > self.max_pixels:
            raise ServiceError(
                pb.IMAGE_TOO_MANY_PIXELS,
                f"an image of {image.width} x {image.height} becomes {width} x {height} in "
                f"preprocessing, over the limit of {self.max_pixels} pixels; crop it first",
            )


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


def _pad(image: Image.Image, border: tuple[int, int, int, int], level: int) -> Image.Image:
    """Return the image with `border` pixels of grey `level` on the left, the top, the right and the "
    "bottom."""
    bands = len(image.getbands())
    padded = ImageOps.expand(image, border, level if bands == 1 else (level,) * bands)
    if image.mode == "P":
        # The border is an entry of the palette, whatever its colour, as in the published transform.
        palette = image.getpalette()
        if palette is not None:
            padded.putpalette(palette)
    return padded
