"""From the bytes of an image file to an upright image, within limits and without surprises.

Sizes are checked from the header, before pixels are decoded and before memory is taken for them.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from cir.errors import InvalidArgument
from cir.images import formats
from cir.images.header import webp_size
from cir.images.upright import EXACT_PIXELS, Colour, UprightImage, grey_range, is_translucent, orientation_of

# Pillow's own bomb check is a global that warns; the limits of the decoder are its own and refuse.
Image.MAX_IMAGE_PIXELS = None
# Text and colour profile of a PNG, inflated. Pillow's 1 MiB refuses images with a large profile.
PngImagePlugin.MAX_TEXT_CHUNK = 8 * 1024 * 1024

MAX_BYTES = 20_000_000
MAX_PIXELS = 64_000_000
#: Pixels of one side: each row takes memory of its own, however short it is.
MAX_SIDE = 65_535

_SAMPLE_FORMAT_TAG = 339
_UNSIGNED = 1


class ImageError(InvalidArgument):
    """An image that cannot be used; `reason` names the `IMAGE_...` value of `cir.common.v1.ErrorReason`."""

    def __init__(self, message: str, *, reason: str = "IMAGE_UNREADABLE") -> None:
        super().__init__(message, reason=reason, field="image")


@dataclass(frozen=True, slots=True)
class Decoder:
    """Limits and options of decoding.

    Images of more than `max_bytes`, `max_pixels` (width times height) or `MAX_SIDE` are refused. `orient`
    turns the image as its EXIF orientation says; the published transform does not. `background` is the RGB
    colour under transparent pixels; None drops the alpha channel, as the published transform does.
    `draft_size` lets the JPEG decoder skip detail as long as the short side keeps at least that many pixels:
    faster, and no longer identical to a full decode in every pixel. `check_size` is called with width and
    height before pixels are decoded, and raises ImageError for what its caller cannot use.
    """

    max_bytes: int = MAX_BYTES
    max_pixels: int = MAX_PIXELS
    orient: bool = True
    background: Colour | None = (255, 255, 255)
    draft_size: int | None = None
    check_size: Callable[[int, int], None] | None = None

    def check_bytes(self, size: int) -> None:
        """Check the length of an encoded image.

        Raises:
            ImageError: IMAGE_EMPTY, IMAGE_TOO_MANY_BYTES.
        """
        if size == 0:
            raise ImageError("the image has no bytes; send an encoded image", reason="IMAGE_EMPTY")
        if size > self.max_bytes:
            raise ImageError(
                f"the image has {size} bytes, the limit is {self.max_bytes}; send a smaller one",
                reason="IMAGE_TOO_MANY_BYTES",
            )

    def check_pixels(self, width: int, height: int, part: str = "the image") -> None:
        """Check the size of an image, or of a part of one.

        Raises:
            ImageError: IMAGE_TOO_MANY_PIXELS.
        """
        if width * height > self.max_pixels:
            raise ImageError(
                f"{part} has {width} x {height} pixels, the limit is {self.max_pixels}; send a smaller one",
                reason="IMAGE_TOO_MANY_PIXELS",
            )
        if max(width, height) > MAX_SIDE:
            raise ImageError(
                f"{part} has {width} x {height} pixels, a side may have {MAX_SIDE}; crop it first",
                reason="IMAGE_TOO_MANY_PIXELS",
            )

    def __call__(self, content: bytes) -> Image.Image:
        """Return the first frame of an encoded image, upright, as one Pillow image; see `decode`."""
        return self.decode(content).whole()

    def decode(self, content: bytes) -> UprightImage:
        """Return the first frame of an encoded image.

        Its mode is the file's own unless transparency was flattened (then RGB) or greyscale of more than 8
        bits was scaled (then L): the conversion to RGB belongs to who uses it.

        Raises:
            ImageError: IMAGE_EMPTY, IMAGE_TOO_MANY_BYTES, IMAGE_TOO_MANY_PIXELS, IMAGE_UNREADABLE (not an
                image of a supported format), IMAGE_TRUNCATED (damaged).
            MemoryError: there is no memory for it.
        """
        self.check_bytes(len(content))
        _silence_pillow()
        # The decoder of WebP takes memory for the canvas before Pillow reports the size.
        self.check_pixels(*webp_size(content))
        image = _open(content)
        self._check_size(image)
        if self.draft_size is not None:
            image.draft(image.mode, (self.draft_size, self.draft_size))
        try:
            image.load()
        except MemoryError:
            raise
        except Exception as error:
            # Pillow's codecs raise many kinds of errors: OSError, SyntaxError, struct.error, ...
            if not _has_all_pixels(image):
                raise ImageError(
                    f"the {image.format} image ends early or is damaged ({error}); send the whole file",
                    reason="IMAGE_TRUNCATED",
                ) from error
        if image.mode in ("P", "PA") and image.palette is None:
            raise ImageError(
                f"the {image.format} image lacks its palette; send the whole file", reason="IMAGE_TRUNCATED"
            )
        # Frames of some formats may be larger than the file's header says.
        self._check_size(image)
        if _is_unsigned(image):
            image.info["unsigned"] = True
        try:
            return UprightImage(
                image,
                # Asked for after loading: the decoders of TIFF and HEIC turn the image themselves.
                orientation=orientation_of(image) if self.orient else 1,
                grey=(grey := grey_range(image)),
                background=self.background if grey is None and self._shows_through(image) else None,
            )
        except (ValueError, TypeError, OSError) as error:
            raise unusable_mode(image.mode, error) from error

    def _shows_through(self, image: Image.Image) -> bool:
        return self.background is not None and is_translucent(image)

    def _check_size(self, image: Image.Image) -> None:
        width, height = image.size
        if width < 1 or height < 1:
            raise ImageError(f"the image has {width} x {height} pixels; none can be read")
        self.check_pixels(width, height)
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            self.check_pixels(*_tile_size(image), part="a tile of the image")
        if self.check_size is not None:
            self.check_size(width, height)


@dataclass(frozen=True, slots=True)
class Fitting:
    """Decoding for the eye: from an image file to RGB that fits into `fit` (width, height) pixels."""

    decoder: Decoder
    fit: tuple[int, int]

    def __call__(self, content: bytes) -> npt.NDArray[np.uint8]:
        """Return uint8 of shape (height, width, 3), upright, rows from the top.

        Raises:
            ImageError: as `Decoder.decode` raises it.
            MemoryError: there is no memory for it.
        """
        shown = self.decoder.decode(content)
        try:
            return np.asarray(shown.fitted(self.fit))
        except (ValueError, TypeError, OSError) as error:
            raise unusable_mode(shown.native.mode, error) from error

    def memory_bytes(self, width: int, height: int) -> int:
        """Return the memory that intermediate images take at most."""
        pixels = width * height
        return 4 * (self.fit[0] * (height + self.fit[1]) + (pixels if pixels <= EXACT_PIXELS else 0))


def unusable_mode(mode: str, error: Exception) -> ImageError:
    """Return the error for pixels of a kind that cannot be converted or resized."""
    return ImageError(f"images of pixel format {mode} are not read ({error}); send 8-bit RGB")


def _open(content: bytes) -> Image.Image:
    form = formats.format_of(content)
    if form not in formats.FORMATS:
        hint = " (HEIC: the extra [heif] is not installed)" if form == "HEIF" else ""
        raise ImageError(
            f"the bytes are not an image that is read{hint}; formats that are read: "
            f"{', '.join(formats.FORMATS)}"
        )
    # No decoder but the one whose cost the header has told; files of both these formats may begin alike.
    tried = ("AVIF", "HEIF") if form == "HEIF" and "AVIF" in formats.FORMATS else (form,)
    try:
        return Image.open(io.BytesIO(content), formats=tried)
    except MemoryError:
        raise
    except Exception as error:
        # As above: a damaged header makes Pillow raise many kinds, not only UnidentifiedImageError.
        cause = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise ImageError(
            f"the bytes begin like an image, but the header is damaged, cut short or of a kind that is "
            f"not read{cause}; send the whole file, best as JPEG or PNG",
            reason="IMAGE_TRUNCATED",
        ) from error


def _has_all_pixels(image: Image.Image) -> bool:
    """Return True for a PNG of which only what comes after the pixels, text for example, is damaged."""
    return isinstance(image, PngImagePlugin.PngImageFile) and not image.tile


def _tile_size(image: TiffImagePlugin.TiffImageFile) -> tuple[int, int]:
    """Return the width and height of a tile: libtiff takes memory for it whatever the image's own size."""
    width, height = (
        image.tag_v2.get(tag, 0) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH)
    )
    return (width, height) if isinstance(width, int) and isinstance(height, int) else (0, 0)


def _is_unsigned(image: Image.Image) -> bool:
    """Return True for a TIFF of unsigned 32-bit integers, which Pillow takes for signed ones."""
    return (
        isinstance(image, TiffImagePlugin.TiffImageFile)
        and image.mode == "I"
        and image.tag_v2.get(_SAMPLE_FORMAT_TAG, (_UNSIGNED,)) in (_UNSIGNED, (_UNSIGNED,))
    )


_PILLOW_MODULES = r"PIL\."


def _silence_pillow() -> None:
    """Ignore the warnings that Pillow gives about odd files: the caller gets an answer or an error.

    Called for each decode, since other code may have put filters in front. `warnings.catch_warnings` is not
    an alternative, because it is not safe with threads.
    """
    first = warnings.filters[0] if warnings.filters else None
    if first is None or first[0] != "ignore" or getattr(first[3], "pattern", None) != _PILLOW_MODULES:
        warnings.filterwarnings("ignore", module=_PILLOW_MODULES)
