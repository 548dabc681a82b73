"""From the bytes of a picture to a decoded Pillow picture, within limits and without surprises.

Size is checked from the header, before the pixels are decoded. Only formats that Pillow decodes by itself
are tried: none that runs another program (EPS) or reads other files.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, features

from cir.common.v1 import errors_pb2 as pb
from service_runtime.errors import ServiceError

FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF") + (
    ("AVIF",) if features.check("avif") else ()
)
"""Formats that are read, by Pillow's names."""

# Openings that say "this is meant to be a picture", to tell a damaged one from something else.
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")

_ORIENTATION_TAG = 0x0112
_TRANSPOSE_BY_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow's own bomb check is a global that warns; the limit below is per decoder and refuses.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class Decoder:
    """Limits and choices of decoding.

    `max_bytes` and `max_pixels` (width times height) are refused beyond. `orient` turns the picture as its
    EXIF orientation says; the published transform does not. `background` is the RGB colour under
    transparent pixels; None drops the alpha channel, as the published transform does. `draft_size` lets the
    JPEG decoder skip detail so long as the short side keeps at least that many pixels: faster, and no longer
    identical to a full decode in every pixel.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 64_000_000
    orient: bool = True
    background: tuple[int, int, int] | None = (255, 255, 255)
    draft_size: int | None = None

    def check_bytes(self, size: int) -> None:
        """Raise ServiceError (IMAGE_EMPTY, IMAGE_TOO_MANY_BYTES) for a picture of `size` bytes."""
        if size == 0:
            raise ServiceError(pb.IMAGE_EMPTY, "the picture has no bytes; send an encoded picture")
        if size > self.max_bytes:
            raise ServiceError(
                pb.IMAGE_TOO_MANY_BYTES,
                f"the picture has {size} bytes, the limit is {self.max_bytes}; send a smaller one",
            )

    def __call__(self, content: bytes) -> Image.Image:
        """Decode the first frame.

        The mode is the file's own unless transparency was flattened (then RGB) or 16-bit greyscale was
        scaled to 8 bits (then L): the conversion to RGB belongs to preprocessing.

        Raises ServiceError: IMAGE_EMPTY, IMAGE_TOO_MANY_BYTES, IMAGE_TOO_MANY_PIXELS, IMAGE_UNREADABLE (not
        a picture of a format that is read) or IMAGE_TRUNCATED (a damaged one).
        """
        self.check_bytes(len(content))
        _silence_pillow()
        picture = _open(content)
        self._check_pixels(picture)
        orientation = _orientation(picture) if self.orient else 1
        if self.draft_size is not None:
            picture.draft(picture.mode, (self.draft_size, self.draft_size))
        try:
            picture.load()
        except Exception as error:
            # Pillow's codecs raise whatever their parsing met: OSError, SyntaxError, struct.error, ...
            raise ServiceError(
                pb.IMAGE_TRUNCATED,
                f"the {picture.format} picture ends early or is damaged ({error}); send the whole file",
            ) from error
        # Frames of some formats may be larger than the header of the file said.
        self._check_pixels(picture)
        try:
            picture = _to_eight_bits(picture)
            if self.background is not None:
                picture = _flatten(picture, self.background)
        except (ValueError, TypeError, OSError) as error:
            raise ServiceError(
                pb.IMAGE_UNREADABLE,
                f"pictures of pixel format {picture.mode} are not read ({error}); send 8-bit RGB",
            ) from error
        transpose = _TRANSPOSE_BY_ORIENTATION.get(orientation)
        return picture if transpose is None else picture.transpose(transpose)

    def _check_pixels(self, picture: Image.Image) -> None:
        width, height = picture.size
        if width * height > self.max_pixels:
            raise ServiceError(
                pb.IMAGE_TOO_MANY_PIXELS,
                f"the picture has {width} x {height} pixels, the limit is {self.max_pixels}; "
                "send a smaller one",
            )
        if width < 1 or height < 1:
            raise ServiceError(
                pb.IMAGE_UNREADABLE, f"the picture has {width} x {height} pixels; none can be read"
            )


def _open(content: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except Exception as error:
        # As above: a damaged header makes Pillow raise many kinds, not only UnidentifiedImageError.
        if _looks_like_a_picture(content):
            raise ServiceError(
                pb.IMAGE_TRUNCATED,
                "the picture begins like one, but its header is cut short or damaged; send the whole file",
            ) from error
        raise ServiceError(
            pb.IMAGE_UNREADABLE,
            f"the bytes are not a picture that is read; formats that are read: {', '.join(FORMATS)}",
        ) from error


def _looks_like_a_picture(content: bytes) -> bool:
    riff = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    avif = content[4:12] == b"ftypavif"
    return riff or avif or content.startswith(_MAGIC)


def _orientation(picture: Image.Image) -> int:
    try:
        value = picture.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        # Damaged EXIF data is no reason to refuse a picture whose pixels are fine.
        return 1
    return value if isinstance(value, int) else 1


def _to_eight_bits(picture: Image.Image) -> Image.Image:
    """Scale 16-bit greyscale to 8 bits; Pillow's own conversion would clip it to white."""
    if not picture.mode.startswith("I"):
        return picture
    levels = np.asarray(picture)
    if picture.mode == "I" and (levels.size == 0 or levels.max() < 256):
        return picture
    return Image.fromarray((np.clip(levels, 0, 65_535) >> 8).astype(np.uint8))


def _flatten(picture: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if not picture.has_transparency_data:
        return picture
    layer = picture.convert("RGBA")
    lowest, _ = layer.getchannel("A").getextrema()
    if lowest == 255:
        # Nothing shows through: leave the picture as it is, so that it is treated as published.
        return picture
    ground = Image.new("RGBA", layer.size, (*background, 255))
    return Image.alpha_composite(ground, layer).convert("RGB")


_PILLOW_MODULES = r"PIL\."


def _silence_pillow() -> None:
    """Ignore the warnings that Pillow gives about odd files: the caller gets an answer or an error.

    Once per decode, since other code may have put filters in front. `warnings.catch_warnings` is no
    alternative, because it is not safe with threads.
    """
    first = warnings.filters[0] if warnings.filters else None
    if first is None or first[0] != "ignore" or getattr(first[3], "pattern", None) != _PILLOW_MODULES:
        warnings.filterwarnings("ignore", module=_PILLOW_MODULES)
