"""From a decoded image to the square RGB pixels that CLIP takes.

Pixels are identical to the published transform of CLIP4Cir (`data_utils.py`: TargetPad or SquarePad, then
Resize, CenterCrop, RGB), which this module implements with Pillow only. Two details of it matter: padding and
resizing happen in the image's own mode, before the conversion to RGB, and padding is truncated with
`int()`, so a padded image may be one pixel short of its ratio. Normalisation is left to the device.
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
    """Crop the centre, as CLIP does."""


@dataclass(frozen=True, slots=True)
class Preprocessor:
    """The transform of one model.

    `size` is the side of the result in pixels. `max_pixels` bounds every intermediate image: padding a
    1 x 50,000 image to a square, or resizing its short side to 224, would take gigabytes.
    """

    mode: PaddingMode = PaddingMode.TARGETPAD
    size: int = 224
    target_ratio: float = 1.25
    max_pixels: int = 128_000_000

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
        resized = resized_size(*padded, self.size)
        self._check_pixels(image, *padded)
        self._check_pixels(image, *resized)
        try:
            if across or down:
                image = _pad(image, across, down)
            image = image.resize(resized, Image.Resampling.BICUBIC)
            left = round((resized[0] - self.size) / 2)
            top = round((resized[1] - self.size) / 2)
            image = image.crop((left, top, left + self.size, top + self.size))
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


def resized_size(width: int, height: int, size: int) -> tuple[int, int]:
    """Return width and height with the short side resized to `size` and the ratio kept (truncated)."""
    if width <= height:
        return size, int(size * height / width)
    return int(size * width / height), size


def _pad(image: Image.Image, across: int, down: int) -> Image.Image:
    bands = len(image.getbands())
    fill = 0 if bands == 1 else (0,) * bands
    padded = ImageOps.expand(image, (across, down), fill)
    if image.mode == "P":
        # The border is entry 0 of the palette, whatever its colour, as in the published transform.
        palette = image.getpalette()
        if palette is not None:
            padded.putpalette(palette)
    return padded
